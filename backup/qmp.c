/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/qmp.h"

#include "backup/line-reader.h"
#include "index/lock.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 4096
#define WRITE_SECONDS 10

struct VmaQmp {
  int fd;
  int stop[2]; /* a pipe that ends the reader */
  char *who, *address;
  guint major;
  pthread_t reader;
  gboolean has_reader;
  pthread_mutex_t turn; /* held from a command to its reply */

  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t changed;
  gboolean greeted, closed;
  char *why; /* it was closed */
  gint64 next_id, waiting_id;
  JsonObject *reply;
  GQueue events;
};

G_DEFINE_QUARK (vma - qmp - error - quark, vma_qmp_error)

/* --- what comes in --------------------------------------------------------------------------- */

/* Takes the message: nobody else has a part of it afterwards but who gets it. */
static void
take (VmaQmp *qmp, JsonObject *message)
{
  VMA_LOCK (&qmp->lock);
  if (json_object_has_member (message, "QMP")) {
    JsonObject *greeting = vma_json_object (message, "QMP");
    JsonObject *version = vma_json_object (vma_json_object (greeting, "version"), "qemu");
    gint64 major = vma_json_int (version, "major", 0);
    qmp->major = major > 0 && major < 1000 ? (guint) major : 0;
    qmp->greeted = TRUE;
  } else if (vma_json_string (message, "event") != NULL) {
    g_queue_push_tail (&qmp->events, g_steal_pointer (&message));
    if (qmp->events.length > MAX_EVENTS)
      json_object_unref (g_queue_pop_head (&qmp->events));
  } else if (qmp->waiting_id != 0 && vma_json_int (message, "id", 0) == qmp->waiting_id
             && qmp->reply == NULL)
    qmp->reply = g_steal_pointer (&message);
  /* All else is the answer to nobody's question: one that came after its time. */
  g_clear_pointer (&message, json_object_unref);
  pthread_cond_broadcast (&qmp->changed);
}

static void
set_closed (VmaQmp *qmp, const char *why)
{
  VMA_LOCK (&qmp->lock);
  if (!qmp->closed) {
    qmp->closed = TRUE;
    qmp->why = g_strdup (why);
  }
  pthread_cond_broadcast (&qmp->changed);
}

static void *
read_all (void *data)
{
  VmaQmp *qmp = data;
  g_autoptr (VmaLineReader) lines = vma_line_reader_new (qmp->fd, qmp->stop[0], VMA_JSON_MAX_LINE);
  g_autoptr (GError) error = NULL;

  for (;;) {
    gsize size;
    const char *line = vma_line_reader_next (lines, &size, NULL, &error);
    JsonObject *message = line != NULL ? vma_json_parse (line, size, &error) : NULL;
    if (message == NULL)
      break;
    take (qmp, message);
  }
  set_closed (qmp, error != NULL ? error->message : "the connection was closed");
  return NULL;
}

/* --- waiting --------------------------------------------------------------------------------- */

static struct timespec
in_ms (guint64 ms)
{
  struct timespec when;

  clock_gettime (CLOCK_MONOTONIC, &when);
  when.tv_sec += (time_t) (ms / 1000);
  when.tv_nsec += (long) (ms % 1000) * 1000000;
  if (when.tv_nsec >= 1000000000) {
    when.tv_sec++;
    when.tv_nsec -= 1000000000;
  }
  return when;
}

/* The caller holds the lock.  FALSE when the time is over. */
static gboolean
wait_changed (VmaQmp *qmp, const struct timespec *until)
{
  return pthread_cond_timedwait (&qmp->changed, &qmp->lock, until) == 0;
}

static gboolean
wait_greeting (VmaQmp *qmp, guint seconds, GError **error)
{
  struct timespec until = in_ms (seconds * 1000ull);

  VMA_LOCK (&qmp->lock);
  while (!qmp->greeted && !qmp->closed)
    if (!wait_changed (qmp, &until))
      break;
  if (qmp->greeted)
    return TRUE;
  if (qmp->closed)
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_CLOSED, "%s: no %s monitor: %s", qmp->address,
                 qmp->who, qmp->why);
  else
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_BUSY,
                 "%s: no greeting within %u s (another program may be using this socket)",
                 qmp->address, seconds);
  return FALSE;
}

/* --- what goes out --------------------------------------------------------------------------- */

static gboolean
send_line (VmaQmp *qmp, const char *text, int pass_fd, GError **error)
{
  gsize size = strlen (text), done = 0;
  gint64 until = g_get_monotonic_time () + WRITE_SECONDS * G_USEC_PER_SEC;

  while (done < size) {
    union {
      struct cmsghdr header;
      char space[CMSG_SPACE (sizeof (int))];
    } control = { 0 };
    struct iovec iov = { (void *) (text + done), size - done };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (pass_fd >= 0 && done == 0) {
      message.msg_control = &control;
      message.msg_controllen = sizeof control.space;
      struct cmsghdr *header = CMSG_FIRSTHDR (&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN (sizeof (int));
      memcpy (CMSG_DATA (header), &pass_fd, sizeof (int));
    }
    gssize n = sendmsg (qmp->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      done += (gsize) n;
      continue;
    }
    if (n < 0 && errno == EINTR)
      continue;
    struct pollfd wait = { qmp->fd, POLLOUT, 0 };
    if (n < 0 && errno != EAGAIN) {
      g_set_error (error, VMA_QMP_ERROR, VMA_QMP_CLOSED, "%s has closed the connection", qmp->who);
      return FALSE;
    }
    if (g_get_monotonic_time () > until) {
      g_set_error (error, VMA_QMP_ERROR, VMA_QMP_TIMEOUT, "%s takes no commands", qmp->who);
      return FALSE;
    }
    poll (&wait, 1, 100);
  }
  return TRUE;
}

static JsonNode *
take_reply (VmaQmp *qmp, const char *command, JsonObject *reply, GError **error)
{
  JsonObject *refusal = vma_json_object (reply, "error");

  if (refusal == NULL) {
    JsonNode *value = json_object_get_member (reply, "return");
    if (value != NULL)
      return json_node_copy (value);
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_REFUSED, "%s: a reply of %s without a result",
                 command, qmp->who);
    return NULL;
  }
  const char *kind = vma_json_string (refusal, "class");
  const char *text = vma_json_string (refusal, "desc");
  VmaQmpError code = g_strcmp0 (kind, "CommandNotFound") == 0  ? VMA_QMP_NO_COMMAND
                     : g_strcmp0 (kind, "DeviceNotFound") == 0 ? VMA_QMP_NOT_FOUND
                                                               : VMA_QMP_REFUSED;
  g_set_error (error, VMA_QMP_ERROR, code, "%s: %s", command, text != NULL ? text : "refused");
  return NULL;
}

static JsonNode *
execute (VmaQmp *qmp, const char *command, JsonNode *arguments, int pass_fd, guint seconds,
         GError **error)
{
  g_autoptr (JsonObject) reply = NULL;
  struct timespec until = in_ms (seconds * 1000ull);

  VMA_LOCK (&qmp->turn);
  pthread_mutex_lock (&qmp->lock);
  gint64 id = qmp->waiting_id = ++qmp->next_id;
  pthread_mutex_unlock (&qmp->lock);

  g_autoptr (JsonNode) message
      = vma_json_make ("execute:s", command, "arguments:o", arguments, "id:i", id, NULL);
  g_autofree char *line = vma_json_line (message);
  g_autofree char *text = g_strconcat (line, "\r\n", NULL);
  g_autoptr (GError) sending = NULL;
  gboolean sent = send_line (qmp, text, pass_fd, &sending);

  pthread_mutex_lock (&qmp->lock);
  gboolean in_time = TRUE;
  while (sent && in_time && qmp->reply == NULL && !qmp->closed)
    in_time = wait_changed (qmp, &until);
  reply = g_steal_pointer (&qmp->reply);
  qmp->waiting_id = 0;
  if (reply == NULL && sending != NULL)
    g_set_error (error, VMA_QMP_ERROR, sending->code, "%s: %s", command, sending->message);
  else if (reply == NULL && qmp->closed)
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_CLOSED, "%s: no reply of %s: %s", command, qmp->who,
                 qmp->why);
  else if (reply == NULL)
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_TIMEOUT, "%s: no reply of %s within %u s", command,
                 qmp->who, seconds);
  pthread_mutex_unlock (&qmp->lock);
  return reply != NULL ? take_reply (qmp, command, reply, error) : NULL;
}

JsonNode *
vma_qmp_execute (VmaQmp *qmp, const char *command, JsonNode *arguments, guint seconds,
                 GError **error)
{
  return execute (qmp, command, arguments, -1, seconds, error);
}

gboolean
vma_qmp_run (VmaQmp *qmp, const char *command, JsonNode *arguments, GError **error)
{
  g_autoptr (JsonNode) result = execute (qmp, command, arguments, -1, VMA_QMP_SECONDS, error);

  return result != NULL;
}

gboolean
vma_qmp_pass_fd (VmaQmp *qmp, int fd, const char *name, GError **error)
{
  g_autoptr (JsonNode) result
      = execute (qmp, "getfd", vma_json_make ("fdname:s", name, NULL), fd, VMA_QMP_SECONDS, error);

  return result != NULL;
}

JsonNode *
vma_qmp_add_fd (VmaQmp *qmp, int fd, GError **error)
{
  return execute (qmp, "add-fd", NULL, fd, VMA_QMP_SECONDS, error);
}

JsonObject *
vma_qmp_next_event (VmaQmp *qmp, guint ms)
{
  struct timespec until = in_ms (ms);

  VMA_LOCK (&qmp->lock);
  while (g_queue_is_empty (&qmp->events) && !qmp->closed)
    if (!wait_changed (qmp, &until))
      break;
  return g_queue_pop_head (&qmp->events);
}

gboolean
vma_qmp_is_closed (VmaQmp *qmp)
{
  VMA_LOCK (&qmp->lock);
  return qmp->closed;
}

/* --- life ------------------------------------------------------------------------------------ */

static int
connect_path (const char *path, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = -1;

  if (strlen (path) >= sizeof address.sun_path)
    errno = ENAMETOOLONG;
  else {
    memcpy (address.sun_path, path, strlen (path));
    fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  }
  if (fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof address) == 0)
    return fd;
  g_set_error (error, VMA_QMP_ERROR, VMA_QMP_CONNECT, "%s: cannot connect: %s", path,
               g_strerror (errno));
  if (fd >= 0)
    close (fd);
  return -1;
}

static int
open_address (const char *address, GError **error)
{
  gint64 number;

  if (!g_str_has_prefix (address, "fd:"))
    return connect_path (address, error);
  int fd = -1;
  if (g_ascii_string_to_signed (address + 3, 10, 0, G_MAXINT, &number, NULL))
    fd = fcntl ((int) number, F_DUPFD_CLOEXEC, 3);
  if (fd < 0)
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_CONNECT, "%s: no such descriptor", address);
  return fd;
}

static void
init_locks (VmaQmp *qmp)
{
  pthread_condattr_t monotonic;

  pthread_mutex_init (&qmp->turn, NULL);
  pthread_mutex_init (&qmp->lock, NULL);
  pthread_condattr_init (&monotonic);
  pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init (&qmp->changed, &monotonic);
  pthread_condattr_destroy (&monotonic);
}

/* An inherited connection may have been greeted long ago, and negotiated too. */
static gboolean
negotiate (VmaQmp *qmp, gboolean inherited, guint seconds, GError **error)
{
  g_autoptr (GError) greeting = NULL;
  g_autoptr (GError) refused = NULL;

  if (!wait_greeting (qmp, inherited ? 1 : seconds, &greeting)
      && (!inherited || greeting->code != VMA_QMP_BUSY)) {
    g_propagate_error (error, g_steal_pointer (&greeting));
    return FALSE;
  }
  g_autoptr (JsonNode) done = execute (qmp, "qmp_capabilities", NULL, -1, seconds, &refused);
  if (done != NULL || (inherited && g_error_matches (refused, VMA_QMP_ERROR, VMA_QMP_NO_COMMAND)))
    return TRUE;
  g_propagate_prefixed_error (error, g_steal_pointer (&refused), "%s: ", qmp->address);
  return FALSE;
}

VmaQmp *
vma_qmp_open (const char *address, const char *who, guint seconds, GError **error)
{
  int fd = open_address (address, error);

  if (fd < 0)
    return NULL;
  g_autoptr (VmaQmp) qmp = g_new0 (VmaQmp, 1);
  qmp->fd = fd;
  qmp->who = g_strdup (who);
  qmp->address = g_strdup (address);
  qmp->stop[0] = qmp->stop[1] = -1;
  /* Replies to whoever had an inherited connection before are not taken for ours. */
  qmp->next_id = ((gint64) g_random_int () << 16) + 1;
  init_locks (qmp);
  if (pipe2 (qmp->stop, O_CLOEXEC) != 0
      || pthread_create (&qmp->reader, NULL, read_all, qmp) != 0) {
    g_set_error (error, VMA_QMP_ERROR, VMA_QMP_CONNECT, "%s: cannot start a thread", address);
    return NULL;
  }
  qmp->has_reader = TRUE;
  if (!negotiate (qmp, g_str_has_prefix (address, "fd:"), seconds, error))
    return NULL;
  return g_steal_pointer (&qmp);
}

void
vma_qmp_free (VmaQmp *qmp)
{
  if (qmp == NULL)
    return;
  if (qmp->stop[1] >= 0)
    close (qmp->stop[1]);
  if (qmp->has_reader)
    pthread_join (qmp->reader, NULL);
  if (qmp->stop[0] >= 0)
    close (qmp->stop[0]);
  close (qmp->fd);
  g_queue_clear_full (&qmp->events, (GDestroyNotify) json_object_unref);
  pthread_cond_destroy (&qmp->changed);
  pthread_mutex_destroy (&qmp->lock);
  pthread_mutex_destroy (&qmp->turn);
  g_free (qmp->why);
  g_free (qmp->who);
  g_free (qmp->address);
  g_free (qmp);
}

pid_t
vma_qmp_peer (VmaQmp *qmp, uid_t *uid)
{
  struct ucred peer;
  socklen_t size = sizeof peer;

  if (getsockopt (qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    peer = (struct ucred){ .pid = 0, .uid = (uid_t) -1 };
  if (uid != NULL)
    *uid = peer.uid;
  return peer.pid;
}

guint
vma_qmp_major (VmaQmp *qmp)
{
  VMA_LOCK (&qmp->lock);
  return qmp->major;
}
