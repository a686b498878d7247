/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/daemon.h"

#include "fuse/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct VmaDaemon {
  int parent_fd; /* -1: in the foreground, or already told */
  int ready_fd;
};

static pid_t waited_for;
static volatile sig_atomic_t interrupted;

/* Whoever interrupts the parent while it waits does not want the mount any more. */
static void
pass_on_signal (int signal_number)
{
  interrupted = signal_number;
  kill (waited_for, SIGTERM);
}

/* The parent's part: until the child says it is ready, or dies. */
static void G_GNUC_NORETURN
wait_for_child (pid_t child, int fd)
{
  static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
  char byte;
  gssize n;
  int status;

  waited_for = child;
  for (gsize i = 0; i < G_N_ELEMENTS (signals); i++)
    if (signal (signals[i], pass_on_signal) == SIG_IGN)
      signal (signals[i], SIG_IGN); /* as under nohup */
  do
    n = read (fd, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n == 1)
    _exit (EXIT_SUCCESS);
  while (waitpid (child, &status, 0) < 0 && errno == EINTR)
    ;
  if (interrupted != 0)
    _exit (128 + interrupted);
  if (WIFSIGNALED (status))
    vma_log ("the daemon was killed by signal %d before the mount was ready", WTERMSIG (status));
  _exit (WIFEXITED (status) && WEXITSTATUS (status) != 0 ? WEXITSTATUS (status) : EXIT_FAILURE);
}

static gboolean
tell (int fd, const char *text, gsize size)
{
  gssize n;

  do
    n = write (fd, text, size);
  while (n < 0 && errno == EINTR);
  return n == (gssize)size;
}

VmaDaemon *
vma_daemon_start (gboolean background, int ready_fd)
{
  VmaDaemon *daemon = g_new (VmaDaemon, 1);
  int fds[2];

  *daemon = (VmaDaemon){ .parent_fd = -1, .ready_fd = ready_fd };
  if (!background)
    return daemon;
  if (pipe2 (fds, O_CLOEXEC) != 0) {
    vma_log ("cannot go to the background: %s", g_strerror (errno));
    exit (EXIT_FAILURE);
  }
  pid_t child = fork ();
  if (child < 0) {
    vma_log ("cannot go to the background: %s", g_strerror (errno));
    exit (EXIT_FAILURE);
  }
  if (child > 0) {
    close (fds[1]);
    wait_for_child (child, fds[0]);
  }
  close (fds[0]);
  daemon->parent_fd = fds[1];
  return daemon;
}

void
vma_daemon_ready (VmaDaemon *daemon)
{
  if (daemon->ready_fd >= 0) {
    if (!tell (daemon->ready_fd, "ready\n", 6))
      vma_log ("cannot write to ready_fd %d: %s", daemon->ready_fd, g_strerror (errno));
    close (daemon->ready_fd);
    daemon->ready_fd = -1;
  }
  if (daemon->parent_fd < 0)
    return;

  /* Descriptors 0 to 2 stay open on something: a later open() must not become standard error. */
  int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  vma_log_to_syslog ();
  if (null >= 0) {
    dup2 (null, STDIN_FILENO);
    dup2 (null, STDOUT_FILENO);
    dup2 (null, STDERR_FILENO);
    close (null);
  }
  /*
   * Not before: an automounter lets those of its own process group through to a directory that waits for
   * its mount, and nobody else.
   */
  setsid ();
  if (chdir ("/") != 0 || !tell (daemon->parent_fd, "", 1))
    vma_log ("cannot tell the parent that the mount is ready: %s", g_strerror (errno));
  close (daemon->parent_fd);
  daemon->parent_fd = -1;
}

void
vma_daemon_free (VmaDaemon *daemon)
{
  g_free (daemon);
}
