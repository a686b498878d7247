/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/driver.h"

#include "mount-helper/interrupt.h"
#include "mount-helper/message.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <libmount.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* As the driver's own limit of a request, see fuse/fs.c. */
#define MAX_READ "1048576"

#define MAX_STATUS (1024 * 1024)

/*
 * mount(8) calls us without PATH, and GLib would then look into the current directory: so where it
 * was installed, or where the environment says.
 */
static const char *
driver_program (void)
{
  const char *program = secure_getenv ("VMAFS");

  return program != NULL && *program == '/' ? program : VMAFS_BINDIR "/vmafs";
}

/* In the child: only calls that are safe there. */
static void G_GNUC_NORETURN
exec_driver (const char *program, char **argv, int keep_fd, pid_t parent)
{
  /* If we are killed, nobody wants the mount any more; vmafs passes that on to its daemon. */
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (getppid () != parent)
    _exit (MNT_EX_FAIL);
  if (keep_fd >= 0)
    fcntl (keep_fd, F_SETFD, 0);
  sigprocmask (SIG_SETMASK, helper_interrupt_old_mask (), NULL);
  execv (program, argv);
  _exit (127);
}

static void
on_cancelled (GCancellable *cancellable G_GNUC_UNUSED, gpointer data)
{
  kill ((pid_t) GPOINTER_TO_INT (data), SIGTERM);
}

static int
wait_for (pid_t child, GCancellable *cancellable)
{
  gulong handler = g_cancellable_connect (cancellable, G_CALLBACK (on_cancelled),
                                          GINT_TO_POINTER ((int) child), NULL);
  siginfo_t info;
  int status = 0;

  /* It is reaped only when nobody can send it a signal any more. */
  while (waitid (P_PID, (id_t) child, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
    ;
  g_cancellable_disconnect (cancellable, handler);
  waitpid (child, &status, 0);
  return status;
}

/* Runs vmafs until its mount answers and it has gone to the background. */
static gboolean
run_driver (char **argv, int keep_fd, GCancellable *cancellable, GError **error)
{
  const char *program = driver_program ();
  pid_t parent = getpid ();

  if (access (program, X_OK) != 0) {
    helper_set_errno (error, MNT_EX_SYSERR, errno, "%s (is vmafs installed?)", program);
    return FALSE;
  }
  if (g_cancellable_is_cancelled (cancellable)) {
    helper_set_interrupted (error);
    return FALSE;
  }
  pid_t child = fork ();
  if (child < 0) {
    helper_set_errno (error, MNT_EX_SYSERR, errno, "cannot start %s", program);
    return FALSE;
  }
  if (child == 0)
    exec_driver (program, argv, keep_fd, parent);

  int status = wait_for (child, cancellable);
  if (g_cancellable_is_cancelled (cancellable)) {
    helper_set_interrupted (error);
    return FALSE;
  }
  if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
    return TRUE;
  if (WIFSIGNALED (status))
    g_set_error (error, HELPER_ERROR, MNT_EX_SOFTWARE, "%s was killed by signal %d", program,
                 WTERMSIG (status));
  else if (WEXITSTATUS (status) == 127)
    g_set_error (error, HELPER_ERROR, MNT_EX_SYSERR, "%s cannot be run", program);
  else
    g_set_error_literal (error, HELPER_ERROR,
                         WEXITSTATUS (status) == 2 ? MNT_EX_USAGE : MNT_EX_FAIL, "");
  return FALSE;
}

static gboolean
call_driver (const char *archive, const char *mountpoint, const char *options, int keep_fd,
             GCancellable *cancellable, GError **error)
{
  gboolean has_options = *options != '\0';
  char *argv[] = { (char *) "vmafs",    (char *) archive,
                   (char *) mountpoint, has_options ? (char *) "-o" : NULL,
                   (char *) options,    NULL };

  return run_driver (argv, keep_fd, cancellable, error);
}

gboolean
driver_mount (const char *archive, const char *dir, const char *options, GCancellable *cancellable,
              GError **error)
{
  return call_driver (archive, dir, options, -1, cancellable, error);
}

/* The FUSE mount of a connection, not attached anywhere. */
static int
make_mount (const char *source, int fuse_fd, gboolean writable)
{
  int fd = -1, saved, fs_fd = fsopen ("fuse", FSOPEN_CLOEXEC);
  unsigned int attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  char number[16];

  if (fs_fd < 0)
    return -1;
  g_snprintf (number, sizeof number, "%d", fuse_fd);
  const struct {
    const char *key, *value;
  } settings[] = {
    { "source", source }, { "subtype", "vmafs" }, { "fd", number },         { "rootmode", "40000" },
    { "user_id", "0" },   { "group_id", "0" },    { "max_read", MAX_READ },
  };
  gboolean ok = fsconfig (fs_fd, FSCONFIG_SET_FLAG, "default_permissions", NULL, 0) == 0
                && (writable || fsconfig (fs_fd, FSCONFIG_SET_FLAG, "ro", NULL, 0) == 0);
  for (gsize i = 0; ok && i < G_N_ELEMENTS (settings); i++)
    ok = fsconfig (fs_fd, FSCONFIG_SET_STRING, settings[i].key, settings[i].value, 0) == 0;
  if (ok && fsconfig (fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
    fd = fsmount (fs_fd, FSMOUNT_CLOEXEC, attributes | (writable ? 0 : MOUNT_ATTR_RDONLY));
  saved = errno;
  close (fs_fd);
  errno = saved;
  return fd;
}

int
driver_mount_detached (const char *archive, const char *options, gboolean writable,
                       GCancellable *cancellable, GError **error)
{
  int fuse_fd = open ("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fuse_fd < 0) {
    helper_set_errno (error, MNT_EX_SYSERR, errno, "cannot open /dev/fuse (try: modprobe fuse)");
    return -1;
  }
  int mount_fd = make_mount (archive, fuse_fd, writable);
  if (mount_fd < 0)
    helper_set_errno (error, MNT_EX_SYSERR, errno,
                      "cannot make a FUSE mount (needs root and Linux 5.8 or newer)");
  else {
    g_autofree char *mountpoint = g_strdup_printf ("/dev/fd/%d", fuse_fd);
    if (!call_driver (archive, mountpoint, options, fuse_fd, cancellable, error)) {
      close (mount_fd);
      mount_fd = -1;
    }
  }
  close (fuse_fd);
  return mount_fd;
}

/* All of a small file; NULL if that cannot be had. */
static char *
read_text (int dir, const char *path)
{
  g_autoptr (GString) text = g_string_new (NULL);
  char buffer[4096];
  gssize n = -1;

  int fd = openat (dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0)
    return NULL;
  while (text->len < MAX_STATUS && (n = read (fd, buffer, sizeof buffer)) > 0)
    g_string_append_len (text, buffer, n);
  close (fd);
  return n == 0 ? g_string_free (g_steal_pointer (&text), FALSE) : NULL;
}

pid_t
driver_pid (int mount_fd, char **uuid)
{
  g_autofree char *text = read_text (mount_fd, ".vmafs/status");
  g_autoptr (JsonParser) parser = json_parser_new ();

  if (uuid != NULL)
    *uuid = NULL;
  if (text == NULL || !json_parser_load_from_data (parser, text, -1, NULL))
    return 0;
  JsonNode *root = json_parser_get_root (parser);
  if (root == NULL || !JSON_NODE_HOLDS_OBJECT (root))
    return 0;
  JsonObject *status = json_node_get_object (root);
  if (uuid != NULL)
    *uuid = g_strdup (json_object_get_string_member_with_default (status, "uuid", NULL));
  gint64 pid = json_object_get_int_member_with_default (status, "pid", 0);
  return (pid_t) CLAMP (pid, 0, G_MAXINT);
}

int
driver_pidfd (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/comm", (int) pid), *name = NULL;
  int fd = pid > 0 ? pidfd_open (pid, 0) : -1;
  struct pollfd poller = { .fd = fd, .events = POLLIN };

  if (fd < 0)
    return -1;
  /* One that has ended, but was not waited for yet, still has its name. */
  if (poll (&poller, 1, 0) == 0 && g_file_get_contents (path, &name, NULL, NULL)
      && strcmp (name, "vmafs\n") == 0)
    return fd;
  close (fd);
  return -1;
}
