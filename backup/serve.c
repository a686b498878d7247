/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/serve.h"

#include "backup/line-reader.h"
#include "backup/orders.h"
#include "backup/running.h"
#include "index/lock.h"
#include "vma/error.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define MAX_ENTRIES 1000
#define MAX_LINE (4u << 20)
#define FIRST_FD 3

typedef struct {
  VmaService *service;
  char *id, *target;
  GSubprocess *child;
  int events; /* what it says on its standard output */
  pthread_t thread;

  /* Under the service's lock. */
  JsonNode *info; /* a BackupInfo, the last that came; NULL before the first */
  gboolean started, ended, failed;
} Entry;

struct VmaService {
  char *program;
  VmaControl *control;
  pthread_mutex_t lock; /* of what follows, and what the entries say */
  pthread_cond_t changed;
  GPtrArray *entries;
  gboolean closing;
};

/* --- one backup ------------------------------------------------------------------------------ */

static void
entry_free (Entry *entry)
{
  g_clear_object (&entry->child);
  g_clear_pointer (&entry->info, json_node_unref);
  g_free (entry->id);
  g_free (entry->target);
  g_free (entry);
}

static void
take_event (Entry *entry, JsonObject *event)
{
  VmaService *service = entry->service;
  const char *name = vma_json_string (event, "event");
  JsonObject *data = vma_json_object (event, "data");

  if (name == NULL || data == NULL)
    return;
  gboolean progress = strcmp (name, "BACKUP_PROGRESS") == 0;
  pthread_mutex_lock (&service->lock);
  g_clear_pointer (&entry->info, json_node_unref);
  entry->info = json_node_copy (json_object_get_member (event, "data"));
  if (entry->target != NULL) /* a descriptor has another name there */
    json_object_set_string_member (json_node_get_object (entry->info), "target", entry->target);
  entry->started = TRUE;
  entry->failed = strcmp (name, "BACKUP_FAILED") == 0;
  pthread_cond_broadcast (&service->changed);
  pthread_mutex_unlock (&service->lock);
  if (!progress)
    vma_control_emit (service->control, name, json_node_copy (entry->info));
}

/* It ended without a word. */
static void
note_crash (Entry *entry)
{
  VmaService *service = entry->service;
  g_autofree char *why
      = g_subprocess_get_if_signaled (entry->child)
            ? g_strdup_printf ("the backup process was killed by signal %d",
                               g_subprocess_get_term_sig (entry->child))
            : g_strdup_printf ("the backup process ended with status %d (its message is in the "
                               "log of the service)",
                               g_subprocess_get_exit_status (entry->child));

  JsonNode *info = entry->info != NULL
                       ? json_node_copy (entry->info)
                       : vma_json_make ("id:s", entry->id, "target:s", entry->target, NULL);
  JsonObject *object = json_node_get_object (info);
  json_object_set_string_member (object, "status", "failed");
  json_object_set_string_member (object, "error", why);
  json_object_set_int_member (object, "end-time", g_get_real_time () * 1000);
  pthread_mutex_lock (&service->lock);
  g_clear_pointer (&entry->info, json_node_unref);
  entry->info = info;
  entry->failed = TRUE;
  pthread_mutex_unlock (&service->lock);
  vma_control_emit (service->control, "BACKUP_FAILED", json_node_copy (info));
}

static gboolean
has_told_its_end (Entry *entry)
{
  const char *status = vma_json_string (vma_json_node_object (entry->info), "status");

  return status != NULL && strcmp (status, "running") != 0 && strcmp (status, "starting") != 0;
}

/* The only thread that changes the entry. */
static void *
follow (void *data)
{
  Entry *entry = data;
  VmaService *service = entry->service;
  g_autoptr (VmaLineReader) lines = vma_line_reader_new (entry->events, -1, MAX_LINE);
  const char *line;
  gsize size;

  while ((line = vma_line_reader_next (lines, &size, NULL, NULL)) != NULL) {
    g_autoptr (JsonObject) event = vma_json_parse (line, size, NULL);
    if (event != NULL)
      take_event (entry, event);
  }
  g_subprocess_wait (entry->child, NULL, NULL);
  close (entry->events);
  if (!has_told_its_end (entry))
    note_crash (entry);
  VMA_LOCK (&service->lock);
  entry->started = entry->ended = TRUE;
  pthread_cond_broadcast (&service->changed);
  return NULL;
}

static GSubprocess *
spawn (VmaOrder *order, int *events, GError **error)
{
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_NONE);
  int ends[2];

  if (pipe2 (ends, O_CLOEXEC) != 0) {
    g_set_error (error, VMA_CONTROL_ERROR, VMA_CONTROL_REFUSED, "no pipe");
    return NULL;
  }
  for (guint i = 0; i < order->fds->len; i++)
    g_subprocess_launcher_take_fd (launcher, g_array_index (order->fds, int, i),
                                   (int) (FIRST_FD + i));
  g_array_set_size (order->fds, 0);
  g_subprocess_launcher_take_stdout_fd (launcher, ends[1]);
  GSubprocess *child
      = g_subprocess_launcher_spawnv (launcher, (const char *const *) order->argv, error);
  *events = ends[0];
  if (child == NULL)
    close (ends[0]);
  return child;
}

/* --- the list; the caller holds the lock ----------------------------------------------------- */

static Entry *
find (VmaService *service, const char *id)
{
  for (guint i = 0; id != NULL && i < service->entries->len; i++) {
    Entry *entry = g_ptr_array_index (service->entries, i);
    if (strcmp (entry->id, id) == 0)
      return entry;
  }
  return NULL;
}

static Entry *
add_entry (VmaService *service, VmaOrder *order, const char *target, GError **error)
{
  int events;

  if (find (service, order->id) != NULL)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED,
                               "there is a backup '%s' already (backup-forget)", order->id);
  if (service->closing)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED, "the service is ending");
  if (service->entries->len >= MAX_ENTRIES)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED, "too many backups (backup-forget)");
  GSubprocess *child = spawn (order, &events, error);
  if (child == NULL)
    return NULL;
  Entry *entry = g_new0 (Entry, 1);
  entry->service = service;
  entry->id = g_strdup (order->id);
  entry->target = g_strdup (target);
  entry->child = child;
  entry->events = events;
  if (pthread_create (&entry->thread, NULL, follow, entry) != 0)
    g_error ("no thread for a backup");
  g_ptr_array_add (service->entries, entry);
  return entry;
}

/* --- commands -------------------------------------------------------------------------------- */

static JsonNode *
done (void)
{
  return vma_json_make (NULL, NULL);
}

static JsonNode *
order_backup (VmaService *service, VmaClient *client, JsonObject *arguments, GError **error)
{
  g_autoptr (VmaOrder) order = vma_order_new (service->program, client, arguments, error);

  if (order == NULL)
    return NULL;
  VMA_LOCK (&service->lock);
  Entry *entry = add_entry (service, order, vma_json_string (arguments, "target"), error);
  if (entry == NULL)
    return NULL;
  /* Forgotten by somebody else meanwhile, it would be gone; `find` tells. */
  while ((entry = find (service, order->id)) != NULL && !entry->started)
    pthread_cond_wait (&service->changed, &service->lock);
  if (entry == NULL || !entry->failed)
    return done ();
  const char *why = vma_json_string (vma_json_node_object (entry->info), "error");
  return vma_control_refuse (error, VMA_CONTROL_REFUSED, "%s", why != NULL ? why : "failed");
}

static JsonNode *
query (VmaService *service)
{
  JsonNode *list = vma_json_list (NULL, NULL);

  VMA_LOCK (&service->lock);
  for (guint i = 0; i < service->entries->len; i++) {
    Entry *entry = g_ptr_array_index (service->entries, i);
    json_array_add_element (json_node_get_array (list),
                            entry->info != NULL
                                ? json_node_copy (entry->info)
                                : vma_json_make ("id:s", entry->id, "status:s", "starting",
                                                 "target:s", entry->target, NULL));
  }
  return list;
}

static JsonNode *
forget (VmaService *service, const char *id, GError **error)
{
  pthread_mutex_lock (&service->lock);
  Entry *entry = find (service, id);
  gboolean ended = entry != NULL && entry->ended;
  if (ended)
    g_ptr_array_remove (service->entries, entry);
  pthread_cond_broadcast (&service->changed);
  pthread_mutex_unlock (&service->lock);
  if (entry == NULL)
    return vma_control_refuse (error, VMA_CONTROL_NO_JOB, "no backup '%s'", id != NULL ? id : "");
  if (!ended)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED, "backup '%s' is still running", id);
  pthread_join (entry->thread, NULL);
  entry_free (entry);
  return done ();
}

static JsonNode *
cancel (VmaService *service, const char *id, GError **error)
{
  VMA_LOCK (&service->lock);
  Entry *entry = find (service, id);
  if (entry == NULL)
    return vma_control_refuse (error, VMA_CONTROL_NO_JOB, "no backup '%s'", id != NULL ? id : "");
  if (!entry->ended)
    g_subprocess_send_signal (entry->child, SIGTERM);
  return done ();
}

/* For the backup itself. */
static JsonNode *
pass_on (VmaService *service, const char *id, const char *command, JsonObject *arguments,
         GError **error)
{
  pthread_mutex_lock (&service->lock);
  Entry *entry = find (service, id);
  gboolean ended = entry != NULL && entry->ended;
  pthread_mutex_unlock (&service->lock);
  if (entry == NULL)
    return vma_control_refuse (error, VMA_CONTROL_NO_JOB, "no backup '%s'", id != NULL ? id : "");
  if (ended)
    return vma_control_refuse (error, VMA_CONTROL_REFUSED, "backup '%s' has ended", id);
  JsonNode *copy = json_node_alloc ();
  json_node_init_object (copy, arguments);
  return vma_running_tell_own (id, command, copy, error);
}

JsonNode *
vma_service_handle (gpointer data, VmaClient *client, const char *command, JsonObject *arguments,
                    GError **error)
{
  VmaService *service = data;
  const char *id = vma_json_string (arguments, "id");

  if (strcmp (command, "backup") == 0)
    return order_backup (service, client, arguments, error);
  if (strcmp (command, "query-backups") == 0)
    return query (service);
  if (strcmp (command, "backup-forget") == 0)
    return forget (service, id, error);
  if (strcmp (command, "backup-cancel") == 0)
    return cancel (service, id, error);
  if (strcmp (command, "backup-set-speed") == 0)
    return pass_on (service, id, command, arguments, error);
  return vma_control_refuse (error, VMA_CONTROL_NO_COMMAND, "The command %s has not been found",
                             command);
}

/* --- life ------------------------------------------------------------------------------------ */

VmaService *
vma_service_new (const char *program)
{
  VmaService *service = g_new0 (VmaService, 1);

  service->program = g_strdup (program);
  service->entries = g_ptr_array_new ();
  pthread_mutex_init (&service->lock, NULL);
  pthread_cond_init (&service->changed, NULL);
  return service;
}

void
vma_service_set_control (VmaService *service, VmaControl *control)
{
  service->control = control;
}

guint
vma_service_running (VmaService *service)
{
  guint n = 0;

  VMA_LOCK (&service->lock);
  for (guint i = 0; i < service->entries->len; i++)
    n += !((Entry *) g_ptr_array_index (service->entries, i))->ended;
  return n;
}

void
vma_service_cancel_all (VmaService *service)
{
  VMA_LOCK (&service->lock);
  service->closing = TRUE;
  for (guint i = 0; i < service->entries->len; i++) {
    Entry *entry = g_ptr_array_index (service->entries, i);
    if (!entry->ended)
      g_subprocess_send_signal (entry->child, SIGTERM);
  }
}

void
vma_service_free (VmaService *service)
{
  for (guint i = 0; i < service->entries->len; i++) {
    Entry *entry = g_ptr_array_index (service->entries, i);
    pthread_join (entry->thread, NULL);
    entry_free (entry);
  }
  g_ptr_array_unref (service->entries);
  pthread_mutex_destroy (&service->lock);
  pthread_cond_destroy (&service->changed);
  g_free (service->program);
  g_free (service);
}
