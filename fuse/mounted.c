/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/mounted.h"

#include "fuse/log.h"
#include "fuse/parked.h"
#include "vma/error.h"

#include <sys/stat.h>
#include <unistd.h>

static void
on_report (gpointer data G_GNUC_UNUSED, const GError *what)
{
  vma_log_error (what);
}

/* The files belong to the archive's owner, and who may read the archive may read them. */
static void
set_ownership (VmaMounted *mounted, const char *path)
{
  const VmaMountOptions *options = mounted->options;
  struct stat st = { .st_uid = geteuid (), .st_gid = getegid (), .st_mode = 0400 };

  if (options->overlay) /* what is written is the business of who mounts, not of who made the backup */
    st.st_mode = 0600;
  else
    stat (path, &st);
  mounted->uid = options->has_uid ? options->uid : st.st_uid;
  mounted->gid = options->has_gid ? options->gid : st.st_gid;
  mounted->mode = options->has_mode ? options->mode : st.st_mode & (options->overlay ? 0666 : 0444);
}

VmaMounted *
vma_mounted_open (const char *path, const VmaMountOptions *options, GError **error)
{
  const VmaArchiveOptions archive_options = {
    .salvage = options->salvage,
    .cache_dir = options->cache_dir,
    .cache_size = options->cache_size,
    .memory_limit = options->memory_limit,
    .follow = options->follow,
    .report = on_report,
  };
  g_autoptr (VmaArchive) archive = vma_archive_open (path, &archive_options, error);

  if (archive == NULL)
    return NULL;
  if (vma_source_is_sequential (vma_archive_source (archive))) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: a pipe cannot be mounted (store the archive in a file first)", path);
    return NULL;
  }

  g_autoptr (VmaOverlay) overlay = NULL;
  if (options->overlay) {
    overlay = vma_overlay_open (options->overlay_file, archive, error);
    if (overlay == NULL)
      return NULL;
  }

  VmaMounted *mounted = g_new0 (VmaMounted, 1);
  mounted->overlay = g_steal_pointer (&overlay);
  mounted->options = options;
  mounted->source = g_canonicalize_filename (path, NULL);
  mounted->archive = g_steal_pointer (&archive);
  mounted->tree = vma_tree_new (mounted->archive);
  if (options->parts)
    mounted->parts = vma_parts_new (mounted->archive, mounted->tree);
  mounted->errors = vma_read_errors_new ();
  mounted->parked = vma_parked_new (mounted->archive);
  set_ownership (mounted, path);
  return mounted;
}

void
vma_mounted_free (VmaMounted *mounted)
{
  g_autoptr (GError) error = NULL;

  vma_parked_free (mounted->parked);
  if (mounted->overlay != NULL && !vma_overlay_close (mounted->overlay, &error))
    vma_log_error (error);
  g_clear_pointer (&mounted->overlay, vma_overlay_free);
  vma_read_errors_free (mounted->errors);
  g_clear_pointer (&mounted->parts, vma_parts_free);
  vma_tree_free (mounted->tree);
  vma_archive_free (mounted->archive);
  g_free (mounted->source);
  g_free (mounted);
}

void
vma_mounted_hold (VmaMounted *mounted)
{
  atomic_fetch_add (&mounted->users, 1);
}

void
vma_mounted_release (VmaMounted *mounted)
{
  atomic_fetch_sub (&mounted->users, 1);
}
