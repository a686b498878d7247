/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that are not raw, through a read-only qemu-nbd of our own.
 *
 * It inherits a listening socket, to which we have connected before it starts; the socket's name is
 * removed at once.  So nothing is left behind, nobody else can connect, and qemu-nbd ends by itself when
 * our last connection does, however we end.
 */
#include "tool/input-nbd.h"

#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM         "qemu-nbd"
#define MAX_CONNECTIONS 16

/* The number where systemd, and so qemu-nbd, expects an inherited socket. */
#define LISTEN_FD 3

typedef struct {
  ToolInput base;
  ToolInput *nbd;
  pid_t child;
} QemuInput;

/* A listening socket (sockets[0]) and n connections to it.  FALSE with errno. */
static gboolean
make_sockets (int *sockets, guint n)
{
  g_autofree char *dir = g_dir_make_tmp ("vmatool-XXXXXX", NULL);
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  gboolean ok = FALSE;

  if (dir == NULL)
    return FALSE;
  /* By the directory's descriptor: the path may be longer than an address can be. */
  int dir_fd = open (dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  g_snprintf (address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/nbd", dir_fd);
  for (guint i = 0; i <= n; i++)
    sockets[i] = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (dir_fd >= 0 && sockets[n] >= 0)
    ok = bind (sockets[0], (struct sockaddr *) &address, sizeof address) == 0
         && listen (sockets[0], (int) n) == 0;
  for (guint i = 1; ok && i <= n; i++)
    ok = connect (sockets[i], (struct sockaddr *) &address, sizeof address) == 0;

  int saved = errno;
  if (dir_fd >= 0) {
    unlinkat (dir_fd, "nbd", 0);
    close (dir_fd);
  }
  rmdir (dir);
  for (guint i = 0; !ok && i <= n; i++)
    if (sockets[i] >= 0)
      close (sockets[i]);
  errno = saved;
  return ok;
}

/* Runs qemu-nbd in the new process.  Only what is allowed between fork and exec. */
static void G_GNUC_NORETURN
run_child (const char *program, char **argv, char **envp, char *pid_digits, int listening, int log)
{
  sigset_t none;
  char digits[16];
  guint n = 0;

  setpgid (0, 0); /* a ^C is for us, who then end it */
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  signal (SIGPIPE, SIG_DFL);

  for (pid_t pid = getpid (); pid > 0; pid /= 10)
    digits[n++] = (char) ('0' + pid % 10);
  while (n > 0)
    *pid_digits++ = digits[--n];
  *pid_digits = '\0';

  int null = open ("/dev/null", O_RDWR);
  dup2 (log, STDERR_FILENO);
  dup2 (null, STDIN_FILENO);
  dup2 (null, STDOUT_FILENO);
  /* Last: any of the others may have had this number. */
  if (listening == LISTEN_FD)
    fcntl (listening, F_SETFD, 0);
  else
    dup2 (listening, LISTEN_FD);
  execve (program, argv, envp);
  _exit (127);
}

/* Our environment and what tells of the socket; *pid_digits has room for a number. */
static char **
child_environment (char **pid_digits)
{
  char **envp = g_get_environ ();

  envp = g_environ_setenv (envp, "LISTEN_FDS", "1", TRUE);
  envp = g_environ_setenv (envp, "LISTEN_PID", "012345678901234", TRUE);
  envp = g_environ_unsetenv (envp, "LISTEN_FDNAMES");
  *pid_digits = (char *) g_environ_getenv (envp, "LISTEN_PID");
  return envp;
}

/* The last line that the child wrote to its stderr, without its name; NULL where there is none. */
static char *
child_says (int log)
{
  char text[4096];
  gssize n = pread (log, text, sizeof text - 1, 0);

  if (n <= 0)
    return NULL;
  text[n] = '\0';
  g_strchomp (text);
  const char *line = strrchr (text, '\n');
  line = line != NULL ? line + 1 : text;
  if (g_str_has_prefix (line, PROGRAM ": "))
    line += strlen (PROGRAM ": ");
  return g_strdup (line);
}

/* It ends when its last connection does, and is made to if it does not. */
static void
end_child (pid_t child)
{
  for (guint tries = 0; tries < 100; tries++) {
    pid_t reaped = waitpid (child, NULL, WNOHANG);
    if (reaped == child || (reaped < 0 && errno != EINTR))
      return;
    if (tries == 50)
      kill (child, SIGTERM);
    g_usleep (20000);
  }
  kill (child, SIGKILL);
  while (waitpid (child, NULL, 0) < 0 && errno == EINTR)
    ;
}

static gboolean
qemu_read (ToolInput *base, void *buffer, gsize size, guint64 offset, GError **error)
{
  return tool_input_read (((QemuInput *) base)->nbd, buffer, size, offset, error);
}

static gboolean
qemu_next_data (ToolInput *base, guint64 offset, guint64 *start, guint64 *end, GError **error)
{
  return tool_input_next_data (((QemuInput *) base)->nbd, offset, start, end, error);
}

static void
qemu_free (ToolInput *base)
{
  QemuInput *input = (QemuInput *) base;

  g_clear_pointer (&input->nbd, tool_input_free);
  if (input->child > 0)
    end_child (input->child);
  g_free ((char *) base->format);
  g_free (input);
}

static const ToolInputOps qemu_ops = { qemu_read, qemu_next_data, qemu_free };

/* Starts the child and speaks to it. */
static gboolean
start (QemuInput *input, const char *path, guint n, GError **error)
{
  g_autofree char *program = g_find_program_in_path (PROGRAM);
  g_autofree char *absolute = g_canonicalize_filename (path, NULL); /* no "nbd:..." or "json:..." */
  g_autofree char *shared = g_strdup_printf ("--shared=%u", n);
  char *argv[] = { (char *) PROGRAM,         (char *) "--read-only", shared, (char *) "-f",
                   (char *) input->base.format, absolute,               NULL };
  int sockets[MAX_CONNECTIONS + 1], log;
  char *pid_digits;

  if (program == NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "%s: %s is needed for a %s image",
                 input->base.shown, PROGRAM, input->base.format);
    return FALSE;
  }
  if ((log = memfd_create (PROGRAM, MFD_CLOEXEC)) < 0 || !make_sockets (sockets, n)) {
    vma_set_errno_error (error, errno, "%s: cannot make a socket", input->base.shown);
    if (log >= 0)
      close (log);
    return FALSE;
  }
  g_auto (GStrv) envp = child_environment (&pid_digits);
  input->child = fork ();
  if (input->child == 0)
    run_child (program, argv, envp, pid_digits, sockets[0], log);
  int errnum = errno;
  close (sockets[0]);
  if (input->child > 0)
    input->nbd = tool_input_nbd_sockets (sockets + 1, n, input->base.format, input->base.shown,
                                         error);
  else {
    for (guint i = 1; i <= n; i++)
      close (sockets[i]);
    vma_set_errno_error (error, errnum, "%s: cannot start %s", input->base.shown, PROGRAM);
  }
  if (input->nbd == NULL && input->child > 0) {
    /* Why, only the child can tell. */
    end_child (input->child);
    input->child = 0;
    g_autofree char *why = child_says (log);
    if (why != NULL && error != NULL) {
      g_clear_error (error);
      g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "%s: %s", input->base.shown, why);
    }
  }
  close (log);
  return input->nbd != NULL;
}

ToolInput *
tool_input_qemu (const char *path, const char *format, char *shown, guint connections,
                 GError **error)
{
  QemuInput *input = g_new0 (QemuInput, 1);

  input->base.ops = &qemu_ops;
  input->base.shown = shown;
  input->base.format = g_strdup (format);
  if (!start (input, path, CLAMP (connections, 1, MAX_CONNECTIONS), error)) {
    tool_input_free (&input->base);
    return NULL;
  }
  input->base.size = input->nbd->size;
  return &input->base;
}
