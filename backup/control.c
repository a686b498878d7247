/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/control.h"

#include "backup/line-reader.h"
#include "backup/names.h"
#include "index/lock.h"
#include "vma/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CLIENTS 64
#define MAX_FDS 16
#define MAX_LINE (1u << 20)
/* A client that does not take its events for so long is left alone. */
#define WRITE_MS 2000

struct VmaClient {
  VmaControlHandler handler;
  gpointer data;
  gboolean negotiated; /* only its own thread looks, but for events: under the control's lock */
  GHashTable *fds;     /* name -> descriptor */

  VmaControl *control; /* NULL in tests */
  int fd;
  pthread_t thread;
  gboolean ended;             /* under the control's lock */
  pthread_mutex_t write_lock; /* of what goes out */
};

struct VmaControl {
  char *path;
  VmaControlHandler handler;
  gpointer data;
  int fd, stop[2];
  pthread_t thread;
  pthread_mutex_t lock; /* of the list */
  GPtrArray *clients;
};

G_DEFINE_QUARK (vma - control - error - quark, vma_control_error)

/* --- one client ------------------------------------------------------------------------------ */

static void
close_fd (gpointer fd)
{
  close (GPOINTER_TO_INT (fd) - 1);
}

VmaClient *
vma_client_new (VmaControlHandler handler, gpointer data)
{
  VmaClient *client = g_new0 (VmaClient, 1);

  client->handler = handler;
  client->data = data;
  client->fd = -1;
  client->fds = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, close_fd);
  pthread_mutex_init (&client->write_lock, NULL);
  return client;
}

void
vma_client_free (VmaClient *client)
{
  if (client->fd >= 0)
    close (client->fd);
  g_hash_table_unref (client->fds);
  pthread_mutex_destroy (&client->write_lock);
  g_free (client);
}

int
vma_client_take_fd (VmaClient *client, const char *name)
{
  gpointer key, value;

  if (!g_hash_table_steal_extended (client->fds, name, &key, &value))
    return -1;
  g_free (key);
  return GPOINTER_TO_INT (value) - 1;
}

static JsonNode *
empty (void)
{
  return vma_json_make (NULL, NULL);
}

static JsonNode *
take_getfd (VmaClient *client, JsonObject *arguments, int *passed, GError **error)
{
  const char *name = vma_json_string (arguments, "fdname");

  if (name == NULL || *passed < 0)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED,
                               name == NULL ? "getfd needs fdname"
                                            : "no descriptor came with getfd");
  if (g_hash_table_size (client->fds) >= MAX_FDS)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED, "too many descriptors");
  g_hash_table_replace (client->fds, g_strdup (name), GINT_TO_POINTER (*passed + 1));
  *passed = -1;
  return empty ();
}

static JsonNode *
run_command (VmaClient *client, const char *command, JsonObject *arguments, int *passed,
             GError **error)
{
  if (strcmp (command, "qmp_capabilities") == 0 && !client->negotiated) {
    if (client->control != NULL)
      pthread_mutex_lock (&client->control->lock);
    client->negotiated = TRUE;
    if (client->control != NULL)
      pthread_mutex_unlock (&client->control->lock);
    return empty ();
  }
  if (!client->negotiated)
    return vma_control_refuse (error, VMA_CONTROL_NO_COMMAND, "say qmp_capabilities first");
  if (strcmp (command, "getfd") == 0)
    return take_getfd (client, arguments, passed, error);
  return client->handler (client->data, client, command, arguments, error);
}

static JsonNode *
refusal (const GError *error)
{
  const char *kind = "GenericError";

  if (g_error_matches (error, VMA_CONTROL_ERROR, VMA_CONTROL_NO_COMMAND))
    kind = "CommandNotFound";
  else if (g_error_matches (error, VMA_CONTROL_ERROR, VMA_CONTROL_NO_JOB))
    kind = "DeviceNotFound";
  return vma_json_make ("class:s", kind, "desc:s", error->message, NULL);
}

char *
vma_client_answer (VmaClient *client, const char *line, gsize size, int passed)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (JsonObject) message = vma_json_parse (line, size, &error);
  const char *command = vma_json_string (message, "execute");
  JsonNode *id = message != NULL ? json_object_get_member (message, "id") : NULL;
  JsonNode *result = NULL;

  if (command != NULL)
    result = run_command (client, command, vma_json_object (message, "arguments"), &passed, &error);
  else if (message != NULL)
    result = vma_control_refuse (&error, VMA_CONTROL_REFUSED,
                                 "a command is {\"execute\": NAME, \"arguments\": {...}}");
  if (passed >= 0)
    close (passed);
  g_autoptr (JsonNode) reply
      = vma_json_make ("return:o", result, "error:o", result == NULL ? refusal (error) : NULL,
                       "id:o", id != NULL ? json_node_copy (id) : NULL, NULL);
  return vma_json_line (reply);
}

/* --- sending --------------------------------------------------------------------------------- */

static gboolean
send_text (VmaClient *client, const char *line)
{
  g_autofree char *text = g_strconcat (line, "\r\n", NULL);
  gsize size = strlen (text), done = 0;

  VMA_LOCK (&client->write_lock);
  while (done < size) {
    gssize n = send (client->fd, text + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    struct pollfd wait = { client->fd, POLLOUT, 0 };
    if (n > 0)
      done += (gsize) n;
    else if (n < 0 && errno == EAGAIN && poll (&wait, 1, WRITE_MS) > 0)
      continue;
    else if (n < 0 && errno != EINTR) {
      shutdown (client->fd, SHUT_RDWR); /* half a line is worse than none */
      return FALSE;
    }
  }
  return TRUE;
}

static const char greeting[]
    = "{\"QMP\": {\"version\": {\"vmabackup\": \"" VMAFS_VERSION "\"}, \"capabilities\": []}}";

static void *
serve_client (void *data)
{
  VmaClient *client = data;
  VmaControl *control = client->control;
  g_autoptr (VmaLineReader) lines = vma_line_reader_new (client->fd, control->stop[0], MAX_LINE);
  gboolean goes_on = send_text (client, greeting);

  while (goes_on) {
    gsize size;
    int passed = -1;
    const char *line = vma_line_reader_next (lines, &size, &passed, NULL);
    if (line == NULL)
      break;
    g_autofree char *answer = vma_client_answer (client, line, size, passed);
    goes_on = send_text (client, answer);
  }
  VMA_LOCK (&control->lock);
  shutdown (client->fd, SHUT_RDWR);
  client->ended = TRUE;
  return NULL;
}

/* --- all clients ----------------------------------------------------------------------------- */

/* Takes those out whose threads have ended, or all.  Threads are joined without the lock. */
static void
reap (VmaControl *control, gboolean all)
{
  g_autoptr (GPtrArray) ended = g_ptr_array_new ();

  pthread_mutex_lock (&control->lock);
  for (guint i = control->clients->len; i-- > 0;) {
    VmaClient *client = g_ptr_array_index (control->clients, i);
    if (all || client->ended)
      g_ptr_array_add (ended, g_ptr_array_remove_index_fast (control->clients, i));
  }
  pthread_mutex_unlock (&control->lock);
  for (guint i = 0; i < ended->len; i++) {
    VmaClient *client = g_ptr_array_index (ended, i);
    pthread_join (client->thread, NULL);
    vma_client_free (client);
  }
}

static void
add_client (VmaControl *control, int fd)
{
  VmaClient *client = vma_client_new (control->handler, control->data);

  client->control = control;
  client->fd = fd;
  VMA_LOCK (&control->lock);
  if (control->clients->len < MAX_CLIENTS
      && pthread_create (&client->thread, NULL, serve_client, client) == 0)
    g_ptr_array_add (control->clients, client);
  else
    vma_client_free (client);
}

static void *
accept_all (void *data)
{
  VmaControl *control = data;

  for (;;) {
    struct pollfd wait[2] = { { control->fd, POLLIN, 0 }, { control->stop[0], 0, 0 } };
    poll (wait, 2, -1);
    if (wait[1].revents != 0)
      return NULL;
    int fd = wait[0].revents != 0 ? accept4 (control->fd, NULL, NULL, SOCK_CLOEXEC) : -1;
    reap (control, FALSE);
    if (fd >= 0)
      add_client (control, fd);
  }
}

char *
vma_control_event_line (const char *event, JsonNode *data)
{
  gint64 now = g_get_real_time ();
  g_autoptr (JsonNode) message
      = vma_json_make ("timestamp:o",
                       vma_json_make ("seconds:i", now / G_USEC_PER_SEC, "microseconds:i",
                                      now % G_USEC_PER_SEC, NULL),
                       "event:s", event, "data:o", data, NULL);

  return vma_json_line (message);
}

void
vma_control_emit (VmaControl *control, const char *event, JsonNode *data)
{
  g_autofree char *line = vma_control_event_line (event, data);

  VMA_LOCK (&control->lock);
  for (guint i = 0; i < control->clients->len; i++) {
    VmaClient *client = g_ptr_array_index (control->clients, i);
    if (client->negotiated && !client->ended)
      send_text (client, line);
  }
}

/* --- the socket ------------------------------------------------------------------------------ */

static int
listen_at (const char *path, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  gboolean listening = FALSE;

  if (strlen (path) >= sizeof address.sun_path) {
    vma_set_errno_error (error, ENAMETOOLONG, "%s", path);
    return -1;
  }
  memcpy (address.sun_path, path, strlen (path));
  if (vma_socket_answers (path)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s is in use: a job of this name runs",
                 path);
    return -1;
  }
  unlink (path); /* left by one that died */
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  /* The mode of a socket is that of its descriptor before bind(). */
  if (fd >= 0)
    listening = fchmod (fd, 0600) == 0
                && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
                && chmod (path, 0600) == 0 && listen (fd, 16) == 0;
  if (listening)
    return fd;
  vma_set_errno_error (error, errno, "%s: cannot listen", path);
  if (fd >= 0)
    close (fd);
  return -1;
}

VmaControl *
vma_control_start (const char *path, VmaControlHandler handler, gpointer data, GError **error)
{
  int fd = listen_at (path, error);

  if (fd < 0)
    return NULL;
  VmaControl *control = g_new0 (VmaControl, 1);
  control->path = g_strdup (path);
  control->handler = handler;
  control->data = data;
  control->fd = fd;
  control->clients = g_ptr_array_new ();
  pthread_mutex_init (&control->lock, NULL);
  if (pipe2 (control->stop, O_CLOEXEC) != 0
      || pthread_create (&control->thread, NULL, accept_all, control) != 0)
    g_error ("no thread for %s", path);
  return control;
}

void
vma_control_stop (VmaControl *control)
{
  unlink (control->path);
  close (control->stop[1]);
  pthread_join (control->thread, NULL);
  reap (control, TRUE);
  close (control->stop[0]);
  close (control->fd);
  g_ptr_array_unref (control->clients);
  pthread_mutex_destroy (&control->lock);
  g_free (control->path);
  g_free (control);
}
