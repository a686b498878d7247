/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmafs: mounts a VMA archive.
 */
#include "fuse/confine.h"
#include "fuse/log.h"
#include "fuse/mount.h"
#include "fuse/mountpoint.h"
#include "fuse/parked.h"
#include "source/nbd-uri.h"
#include "source/sidecar.h"
#include "vma/error.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

/* How long the scan may take before the mount goes ahead without it: most damage shows by then. */
#define GRACE_MS 500

/* libfuse's messages, as ours: one line, with our name in front. */
static void G_GNUC_PRINTF (2, 0)
on_fuse_log (enum fuse_log_level level G_GNUC_UNUSED, const char *format, va_list args)
{
  g_autofree char *message = g_strdup_vprintf (format, args);

  vma_log ("%s", g_strchomp (message));
}

/* Opens the archive and waits a moment for its index; complains where that fails. */
static VmaMounted *
open_archive (const VmaMountOptions *options)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaMounted) mounted = vma_mounted_open (options->archive, options, NULL, &error);

  if (mounted != NULL) {
    gint64 grace = options->wait ? -1 : GRACE_MS;
    vma_archive_start_index (mounted->archive);
    if (mounted->parts != NULL)
      vma_parts_start (mounted->parts);
    gboolean complete = vma_archive_wait_index (mounted->archive, grace, NULL, &error);
    if (complete && mounted->parts != NULL)
      vma_parts_wait (mounted->parts, grace);
    if (complete || error == NULL)
      return g_steal_pointer (&mounted);
  }
  vma_log_error (error);
  return NULL;
}

static VmaDirectory *
open_directory (const VmaMountOptions *options)
{
  g_autoptr (GError) error = NULL;
  VmaDirectory *directory = vma_directory_new (options->archive, options, &error);

  if (directory == NULL)
    vma_log_error (error);
  return directory;
}

/* `data` is the mount; NULL for a session that is only to be mounted. */
static struct fuse_session *
new_session (const VmaMountOptions *options, void *data)
{
  struct fuse_args args = FUSE_ARGS_INIT (0, NULL);
  g_autofree char *display = vma_nbd_display (options->archive);
  g_autofree char *source = vma_nbd_absolute (display);
  g_autofree char *fsname = g_strconcat ("fsname=", source, NULL);
  char *defaults = NULL;

  fuse_opt_add_opt (&defaults, options->overlay ? "rw" : "ro");
  fuse_opt_add_opt (&defaults, "nosuid,nodev,default_permissions,subtype=vmafs,max_read=1048576");
  fuse_opt_add_opt_escaped (&defaults, fsname);
  fuse_opt_add_arg (&args, "vmafs");
  fuse_opt_add_arg (&args, "-o");
  fuse_opt_add_arg (&args, defaults);
  if (*options->fuse_options != '\0') { /* after ours, so that the user's fsname= wins */
    fuse_opt_add_arg (&args, "-o");
    fuse_opt_add_arg (&args, options->fuse_options);
  }
  if (options->debug)
    fuse_opt_add_arg (&args, "-d");

  struct fuse_session *session
      = fuse_session_new (&args, &vma_fs_ops, sizeof vma_fs_ops, data);
  fuse_opt_free_args (&args);
  free (defaults);
  return session;
}

/* Serves until unmounted or told to stop. */
static int
serve (VmaMount *mount, struct fuse_session *session)
{
  struct fuse_loop_config *config = fuse_loop_cfg_create ();

  int result = fuse_session_loop_mt (session, config);
  fuse_loop_cfg_destroy (config);
  /* Before the session goes: parked requests need it for their replies. */
  if (mount->directory != NULL)
    vma_directory_stop (mount->directory);
  else
    vma_mounted_stop (mount->mounted);
  return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS; /* > 0: a signal, which is a way to ask */
}

/*
 * Gives the session its connection to the kernel: one that somebody has mounted already, or a new
 * one.
 */
static gboolean
connect_session (VmaMount *mount, struct fuse_session *session)
{
  const char *mountpoint = mount->options->mountpoint;

  if (g_str_has_prefix (mountpoint, VMA_MOUNTPOINT_FD))
    return fuse_session_mount (session, mountpoint) == 0;
  int fd = vma_keeper_mount (mount->keeper, &mount->readahead_fd);
  if (fd < 0)
    return FALSE;
  g_autofree char *connection = g_strdup_printf (VMA_MOUNTPOINT_FD "%d", fd);
  return fuse_session_mount (session, connection) == 0;
}

static int
mount_and_serve (VmaMount *mount)
{
  int status = EXIT_FAILURE;
  struct fuse_session *session = new_session (mount->options, mount);

  if (session == NULL)
    return status;
  if (fuse_set_signal_handlers (session) == 0) {
    if (connect_session (mount, session)) {
      if (mount->mounted != NULL)
        vma_archive_report_index_failure (mount->mounted->archive);
      status = serve (mount, session);
    }
    fuse_remove_signal_handlers (session);
  }
  fuse_session_destroy (session);
  /* Lazily: a mount in use leaves the name space now, and ends when its last user does. */
  vma_keeper_unmount (mount->keeper);
  return status;
}

static int
open_temporary (gpointer keeper)
{
  return vma_keeper_open_temporary (keeper);
}

static int
name_scratch (gpointer keeper)
{
  return vma_keeper_name_overlay (keeper);
}

/* All that takes more rights than will be left; then they are given up.  NULL: it was told. */
static VmaKeeper *
prepare (VmaMountOptions *options, char **argv)
{
  g_autoptr (GError) error = NULL;

  if (!options->foreground)
    vma_log_prepare_syslog ();
  /* Who wants memory must not wait for pages that we are to write: loop devices stand on us. */
  if (options->overlay)
    prctl (PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* as root; others have no loop devices */
  if (options->overlay)
    options->scratch.fd = vma_overlay_prepare (options->overlay_file);
  g_autoptr (VmaKeeper) keeper = vma_keeper_start (options, new_session, argv, &error);
  if (keeper == NULL || !vma_confine (options, &error)) {
    vma_log_error (error);
    return NULL;
  }
  vma_sidecar_set_temporary (open_temporary, keeper);
  options->scratch.name = name_scratch;
  options->scratch.data = keeper;
  return g_steal_pointer (&keeper);
}

static int
run (VmaMountOptions *options, char **argv)
{
  g_autoptr (GError) error = NULL;

  if (!vma_mountpoint_check (options->mountpoint, &error)) {
    vma_log ("%s", error->message);
    return EXIT_FAILURE;
  }

  g_autoptr (VmaDaemon) daemon = vma_daemon_start (!options->foreground, options->ready_fd);
  gboolean is_directory = g_file_test (options->archive, G_FILE_TEST_IS_DIR);
  if (is_directory && options->base != NULL) {
    vma_log ("%s: -o base needs one archive, and this is a directory", options->archive);
    return EXIT_USAGE;
  }
  if (is_directory && options->overlay) {
    vma_log ("%s: -o overlay needs one archive, and this is a directory", options->archive);
    return EXIT_USAGE;
  }
  g_autoptr (VmaKeeper) keeper = prepare (options, argv);
  if (keeper == NULL)
    return EXIT_FAILURE;
  g_autoptr (VmaDirectory) directory = is_directory ? open_directory (options) : NULL;
  g_autoptr (VmaMounted) mounted = is_directory ? NULL : open_archive (options);
  if (directory == NULL && mounted == NULL)
    return EXIT_FAILURE;

  VmaMount mount = {
    .mounted = mounted,
    .directory = directory,
    .daemon = daemon,
    .keeper = keeper,
    .options = options,
    .readahead_fd = -1,
  };
  int status = mount_and_serve (&mount);
  if (mount.readahead_fd >= 0)
    close (mount.readahead_fd);
  return status;
}

int
main (int argc G_GNUC_UNUSED, char **argv)
{
  g_autoptr (GError) error = NULL;
  VmaMountOptions options;
  int status = EXIT_USAGE;

  setlocale (LC_ALL, "");
  vma_log_init ();
  fuse_set_log_func (on_fuse_log);
  if (!vma_mount_options_parse (&options, argv, &error))
    vma_log ("%s", error->message);
  else if (options.show_version) {
    printf ("vmafs %s\n", VMAFS_VERSION);
    status = EXIT_SUCCESS;
  } else
    status = run (&options, argv);
  vma_mount_options_clear (&options);
  return status;
}
