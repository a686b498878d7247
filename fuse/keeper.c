/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/keeper.h"

#include "fuse/log.h"
#include "fuse/readahead.h"
#include "fuse/request.h"
#include "index/lock.h"
#include "source/sidecar.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Orders. */
enum {
  ORDER_MOUNT = 'm',
  ORDER_TEMPORARY = 't',
  ORDER_NAME = 'n',
  ORDER_READY = 'r',
  ORDER_UNMOUNT = 'u',
};

/* A reply: 0 or an errno, and descriptors. */
enum { MAX_FDS = 2 };

/* How long the end of the driver may take. */
#define DEATH_MS 10000

struct VmaKeeper {
  pid_t pid;
  gboolean mounted;
  pthread_mutex_t lock; /* of what goes over the socket: an order and its reply */
  int socket;
};

/* What the keeper itself knows. */
typedef struct {
  const VmaMountOptions *options;
  VmaKeeperSession new_session;
  int socket;
  int scratch_fd;
  int driver; /* a pidfd; -1: none */
  struct fuse_session *session; /* mounted; NULL: not */
  gboolean ready;
} Keeper;

static gboolean
send_reply (int socket, int result, const int *fds, guint n_fds)
{
  struct iovec iov = { &result, sizeof result };
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (MAX_FDS * sizeof (int))];
  } control = { 0 };
  struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

  if (n_fds > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE (n_fds * sizeof (int));
    struct cmsghdr *header = CMSG_FIRSTHDR (&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN (n_fds * sizeof (int));
    memcpy (CMSG_DATA (header), fds, n_fds * sizeof (int));
  }
  return sendmsg (socket, &message, MSG_NOSIGNAL) == (gssize) sizeof result;
}

/* The reply to an order; descriptors that did not come are -1.  An errno. */
static int
receive_reply (int socket, int fds[MAX_FDS])
{
  int result = EPIPE;
  struct iovec iov = { &result, sizeof result };
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (MAX_FDS * sizeof (int))];
  } control;
  struct msghdr message = { .msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes };
  gssize n;

  for (guint i = 0; i < MAX_FDS; i++)
    fds[i] = -1;
  do
    n = recvmsg (socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n != (gssize) sizeof result)
    return n < 0 ? errno : EPIPE;
  struct cmsghdr *header = CMSG_FIRSTHDR (&message);
  if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    memcpy (fds, CMSG_DATA (header), MIN (header->cmsg_len - CMSG_LEN (0), MAX_FDS * sizeof (int)));
  return result;
}

/* --- the keeper ------------------------------------------------------------------------------- */

/* Nobody takes it for the driver who looks for one by its name or its arguments. */
static void
rename_process (char **argv, const char *mountpoint)
{
  g_autofree char *title = g_strconcat ("vmafs-keeper: ", mountpoint, NULL);
  char *end = argv[0];

  prctl (PR_SET_NAME, "vmafs-keeper", 0, 0, 0);
  for (guint i = 0; argv[i] != NULL && argv[i] == end; i++)
    end += strlen (argv[i]) + 1;
  memset (argv[0], 0, (gsize) (end - argv[0]));
  g_strlcpy (argv[0], title, (gsize) (end - argv[0]));
}

/* Others wait for the end of what the driver holds open. */
static void
close_others (const Keeper *keeper)
{
  int highest = MAX (MAX (keeper->socket, keeper->scratch_fd), keeper->driver);

  for (int fd = 3; fd < highest; fd++)
    if (fd != keeper->socket && fd != keeper->scratch_fd && fd != keeper->driver)
      close (fd);
  close_range ((unsigned) highest + 1, ~0u, 0);
}

static void
do_mount (Keeper *keeper)
{
  int fds[MAX_FDS] = { -1, -1 };
  guint n_fds = 0;

  if (keeper->session == NULL) {
    struct fuse_session *session = keeper->new_session (keeper->options, NULL);
    if (session != NULL && fuse_session_mount (session, keeper->options->mountpoint) == 0)
      keeper->session = session;
    else if (session != NULL)
      fuse_session_destroy (session);
  }
  if (keeper->session != NULL) {
    fds[n_fds++] = fuse_session_fd (keeper->session);
    if (keeper->options->readahead > 0)
      fds[n_fds] = vma_readahead_open (keeper->options->mountpoint);
    n_fds += fds[n_fds] >= 0;
  }
  /* libfuse has said what was wrong. */
  send_reply (keeper->socket, keeper->session != NULL ? 0 : EIO, fds, n_fds);
  if (n_fds == MAX_FDS)
    close (fds[1]);
}

static void
do_temporary (Keeper *keeper)
{
  int fd = vma_sidecar_open_temporary ();

  send_reply (keeper->socket, fd >= 0 ? 0 : errno, &fd, fd >= 0);
  if (fd >= 0)
    close (fd);
}

static void
do_name (const Keeper *keeper)
{
  send_reply (keeper->socket,
              keeper->scratch_fd >= 0
                  ? vma_overlay_name (keeper->scratch_fd, keeper->options->overlay_file)
                  : EBADF,
              NULL, 0);
}

static void
do_ready (Keeper *keeper)
{
  keeper->ready = TRUE;
  if (!keeper->options->foreground) {
    int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
    vma_log_to_syslog ();
    for (int fd = 0; null >= 0 && fd <= 2; fd++)
      dup2 (null, fd);
    if (null > 2)
      close (null);
    setsid ();
    if (chdir ("/") != 0)
      vma_log ("cannot leave the current directory: %s", g_strerror (errno));
  }
  send_reply (keeper->socket, 0, NULL, 0);
}

/* The overlay that was made for a mount that never came to be: that very file. */
static void
remove_scratch (const Keeper *keeper)
{
  const char *file = keeper->options->overlay_file;
  struct stat made, named;

  if (!keeper->ready && keeper->scratch_fd >= 0 && file != NULL
      && fstat (keeper->scratch_fd, &made) == 0 && lstat (file, &named) == 0
      && made.st_dev == named.st_dev && made.st_ino == named.st_ino)
    unlink (file);
}

/*
 * The driver died without a word.  With auto_unmount a fusermount3 waits for our end, and unmounts
 * if the connection is gone by then: so it has to be, on the driver's side and on ours.
 */
static void
let_go (const Keeper *keeper)
{
  struct pollfd poller = { .fd = keeper->driver, .events = POLLIN };

  poll (&poller, 1, DEATH_MS);
  close (fuse_session_fd (keeper->session));
}

static void G_GNUC_NORETURN
keep (Keeper *keeper)
{
  static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
  char order = 0;
  gssize n;

  /* These are for the driver; what becomes of it is seen at the socket. */
  for (gsize i = 0; i < G_N_ELEMENTS (ignored); i++)
    signal (ignored[i], SIG_IGN);
  while (order != ORDER_UNMOUNT
         && ((n = recv (keeper->socket, &order, 1, 0)) == 1 || (n < 0 && errno == EINTR))) {
    if (n < 0)
      continue;
    if (order == ORDER_MOUNT)
      do_mount (keeper);
    else if (order == ORDER_TEMPORARY)
      do_temporary (keeper);
    else if (order == ORDER_NAME)
      do_name (keeper);
    else if (order == ORDER_READY)
      do_ready (keeper);
  }
  remove_scratch (keeper);
  if (order == ORDER_UNMOUNT && keeper->session != NULL)
    fuse_session_unmount (keeper->session);
  else if (keeper->session != NULL)
    let_go (keeper);
  /* Nothing here is the driver's any more: not its exit handlers, nor what it has buffered. */
  _exit (EXIT_SUCCESS);
}

VmaKeeper *
vma_keeper_start (const VmaMountOptions *options, VmaKeeperSession new_session, char **argv,
                  GError **error)
{
  int sockets[2];

  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
    vma_set_errno_error (error, errno, "cannot make a socket");
    return NULL;
  }
  fflush (NULL);
  int driver = pidfd_open (getpid (), 0);
  pid_t pid = fork ();
  if (pid < 0) {
    vma_set_errno_error (error, errno, "cannot start a process");
    close (sockets[0]);
    close (sockets[1]);
    if (driver >= 0)
      close (driver);
    return NULL;
  }
  if (pid == 0) {
    Keeper keeper = {
      .options = options,
      .new_session = new_session,
      .socket = sockets[1],
      .driver = driver,
      .scratch_fd = options->overlay_file != NULL ? options->scratch.fd : -1,
    };
    rename_process (argv, options->mountpoint);
    vma_log_forget_syslog ();
    close_others (&keeper);
    keep (&keeper);
  }
  close (sockets[1]);
  if (driver >= 0)
    close (driver);
  VmaKeeper *keeper = g_new0 (VmaKeeper, 1);
  keeper->pid = pid;
  keeper->socket = sockets[0];
  pthread_mutex_init (&keeper->lock, NULL);
  return keeper;
}

/* --- the driver ------------------------------------------------------------------------------- */

static int
order (VmaKeeper *keeper, char what, int fds[MAX_FDS])
{
  VMA_LOCK (&keeper->lock);

  for (guint i = 0; i < MAX_FDS; i++)
    fds[i] = -1;
  if (send (keeper->socket, &what, 1, MSG_NOSIGNAL) != 1)
    return errno;
  return receive_reply (keeper->socket, fds);
}

int
vma_keeper_mount (VmaKeeper *keeper, int *readahead_fd)
{
  int fds[MAX_FDS];
  int result = order (keeper, ORDER_MOUNT, fds);

  if (result == 0) {
    keeper->mounted = TRUE;
    *readahead_fd = fds[1];
    return fds[0];
  }
  if (result != EIO)
    vma_log ("cannot mount: the process that does it is gone: %s", g_strerror (result));
  return -1;
}

int
vma_keeper_open_temporary (VmaKeeper *keeper)
{
  int fds[MAX_FDS];
  int result = order (keeper, ORDER_TEMPORARY, fds);

  errno = result;
  return result == 0 ? fds[0] : -1;
}

int
vma_keeper_name_overlay (VmaKeeper *keeper)
{
  int fds[MAX_FDS];

  return order (keeper, ORDER_NAME, fds);
}

void
vma_keeper_ready (VmaKeeper *keeper)
{
  int fds[MAX_FDS];

  order (keeper, ORDER_READY, fds);
}

static void
end (VmaKeeper *keeper)
{
  VMA_LOCK (&keeper->lock);

  if (keeper->socket < 0)
    return;
  close (keeper->socket);
  keeper->socket = -1;
  while (waitpid (keeper->pid, NULL, 0) < 0 && errno == EINTR)
    ;
}

void
vma_keeper_unmount (VmaKeeper *keeper)
{
  static const char unmount = ORDER_UNMOUNT;

  if (keeper->mounted && send (keeper->socket, &unmount, 1, MSG_NOSIGNAL) != 1)
    vma_log ("cannot unmount: the process that does it is gone: %s", g_strerror (errno));
  end (keeper);
}

void
vma_keeper_free (VmaKeeper *keeper)
{
  end (keeper);
  pthread_mutex_destroy (&keeper->lock);
  g_free (keeper);
}
