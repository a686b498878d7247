/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a monitor answers: one line of the input after the other, as the result of each command in
 * turn; one that begins with '?' as the error, and one with '!' is sent as it is before that.  At
 * the end the connection is closed.
 *
 * All that looks into answers is run: the check of features, the search for disks, bitmaps,
 * cleaning.
 */
#include "backup/bitmap.h"
#include "backup/clean.h"
#include "backup/disks.h"
#include "backup/names.h"
#include "fuzz/standalone.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
  int fd;
  const char *input, *end;
} Monitor;

static gboolean
say (int fd, const char *text, gsize size)
{
  return send (fd, text, size, MSG_NOSIGNAL) == (gssize) size;
}

/* The id of a request, which is the last member. */
static char *
id_of (const char *request)
{
  const char *id = g_strrstr (request, "\"id\":");

  return id != NULL ? g_strndup (id + 5, strspn (id + 5, "0123456789")) : g_strdup ("0");
}

/* The next line of the input. */
static gboolean
next_line (Monitor *m, const char **line, gsize *size)
{
  const char *stop = memchr (m->input, '\n', (gsize) (m->end - m->input));

  if (m->input == m->end)
    return FALSE;
  *line = m->input;
  *size = (gsize) ((stop != NULL ? stop : m->end) - m->input);
  m->input = stop != NULL ? stop + 1 : m->end;
  return TRUE;
}

static gboolean
answer (Monitor *m, const char *request)
{
  const char *line = "{}", *kind = "return";
  gsize size = 2;

  if (strstr (request, "qmp_capabilities") == NULL)
    do
      if (!next_line (m, &line, &size))
        return FALSE;
    while (size > 0 && line[0] == '!' && say (m->fd, line + 1, size - 1) && say (m->fd, "\n", 1));
  if (size > 0 && line[0] == '?') {
    kind = "error";
    line++, size--;
  }
  g_autofree char *id = id_of (request);
  g_autofree char *head = g_strdup_printf ("{\"id\":%s,\"%s\":", id, kind);
  return say (m->fd, head, strlen (head)) && say (m->fd, line, size) && say (m->fd, "}\n", 2);
}

static void *
serve (void *data)
{
  Monitor *m = data;
  static const char greeting[] = "{\"QMP\":{\"version\":{\"qemu\":{\"major\":7}}}}\n";
  FILE *requests = fdopen (dup (m->fd), "r");
  char *line = NULL;
  size_t room = 0;

  if (say (m->fd, greeting, strlen (greeting)))
    while (getline (&line, &room, requests) > 0)
      if (strlen (line) > 2 && !answer (m, line))
        break;
  shutdown (m->fd, SHUT_RDWR);
  free (line);
  fclose (requests);
  return NULL;
}

static void
look_at_everything (VmaQmp *qmp)
{
  VmaFeatures features = { 0 };
  const char *const some[] = { "a", NULL };
  const char *why;

  vma_features_check (qmp, TRUE, &features, NULL);
  for (guint i = 0; i < 2; i++) {
    features.has_devices = i == 0;
    g_autoptr (GPtrArray) disks = vma_disks_find (qmp, &features, i == 0 ? NULL : some, NULL, NULL);
    for (guint n = 0; disks != NULL && n < disks->len; n++)
      g_assert_cmpuint (((VmaDisk *) disks->pdata[n])->size, >, 0);
  }
  vma_bitmap_is_usable (qmp, "a", "vmabackup:b:c", &why);
  vma_bitmap_repair (qmp, "a");
  vma_bitmap_keep (qmp, "a", "b", "vmabackup:b:c");
  g_strfreev (vma_clean_list (qmp, NULL));
  vma_clean (qmp, "vmabk-a-", TRUE, NULL, NULL);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  int pair[2];
  pthread_t thread;

  if (socketpair (AF_UNIX, SOCK_STREAM, 0, pair) != 0)
    g_error ("no sockets");
  Monitor m = { pair[1], (const char *) bytes, (const char *) bytes + size };
  pthread_create (&thread, NULL, serve, &m);
  g_autofree char *address = g_strdup_printf ("fd:%d", pair[0]);
  VmaQmp *qmp = vma_qmp_open (address, "QEMU", 10, NULL);
  if (qmp != NULL) {
    look_at_everything (qmp);
    vma_qmp_free (qmp);
  }
  shutdown (pair[0], SHUT_RDWR);
  pthread_join (thread, NULL);
  close (pair[0]);
  close (pair[1]);
  return 0;
}
