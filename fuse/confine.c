/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/confine.h"

#include "fuse/archive-name.h"
#include "overlay/overlay.h"
#include "sandbox/archive.h"
#include "source/nbd-uri.h"
#include "vma/error.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

static void
allow_archive (VmaSandbox *sandbox, const char *path, const VmaMountOptions *options)
{
  struct stat st;

  vma_sandbox_allow_archive (sandbox, path);
  /* Whether somebody still writes it is asked for by a lease (source/follow.c). */
  if (options->follow && stat (path, &st) == 0 && st.st_uid != geteuid ())
    vma_sandbox_keep_capability (sandbox, CAP_LEASE);
}

/* A directory, and what its archives are links to. */
static void
allow_directory (VmaSandbox *sandbox, const char *path)
{
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *name;
  gboolean growing;

  vma_sandbox_allow (sandbox, path, VMA_SANDBOX_READ);
  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL) {
    g_autofree char *file = g_build_filename (path, name, NULL);
    if (vma_archive_name_stem (name, &growing) == 0)
      continue;
    if (g_file_test (file, G_FILE_TEST_IS_SYMLINK))
      vma_sandbox_allow (sandbox, file, VMA_SANDBOX_READ);
    else
      vma_sandbox_need (sandbox, file, VMA_SANDBOX_READ);
  }
}

static void
allow_overlay (VmaSandbox *sandbox, const VmaMountOptions *options)
{
  const VmaSandboxAccess all = VMA_SANDBOX_READ | VMA_SANDBOX_WRITE | VMA_SANDBOX_CREATE;

  if (options->overlay_file == NULL) {
    if (options->scratch.fd < 0)
      vma_sandbox_allow (sandbox, vma_overlay_temporary_dir (), all);
  } else if (access (options->overlay_file, F_OK) == 0)
    vma_sandbox_allow (sandbox, options->overlay_file, VMA_SANDBOX_READ | VMA_SANDBOX_WRITE);
  else if (options->scratch.fd < 0) {
    /* A file system without nameless files: more must be left than is good. */
    g_autofree char *dir = g_path_get_dirname (options->overlay_file);
    vma_sandbox_allow (sandbox, dir, all);
  }
}

static gboolean
enter (VmaMountOptions *options, GError **error)
{
  g_autoptr (VmaSandbox) sandbox = vma_sandbox_new ();
  gboolean remote = vma_nbd_is_uri (options->archive);

  vma_sandbox_allow (sandbox, "/dev/null", VMA_SANDBOX_READ | VMA_SANDBOX_WRITE);
  if (!remote && g_file_test (options->archive, G_FILE_TEST_IS_DIR))
    allow_directory (sandbox, options->archive);
  else
    allow_archive (sandbox, options->archive, options);
  if (options->base != NULL)
    allow_archive (sandbox, options->base, options);
  if (options->overlay)
    allow_overlay (sandbox, options);
  if (options->cache_dir != NULL && (remote || access (options->archive, F_OK) == 0))
    vma_sandbox_allow_cache (sandbox, options->cache_dir);
  return vma_sandbox_enter (sandbox, &options->confined, error);
}

gboolean
vma_confine (VmaMountOptions *options, GError **error)
{
  if (options->sandbox == VMA_MOUNT_SANDBOX_OFF)
    options->confined = (VmaSandboxReport){ .off = TRUE, .reason = "-o no_sandbox" };
  else if (!enter (options, error))
    return FALSE;
  const char *missing = vma_sandbox_missing (&options->confined);
  if (options->sandbox == VMA_MOUNT_SANDBOX_REQUIRED && missing != NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "-o sandbox: %s", missing);
    return FALSE;
  }
  return TRUE;
}
