/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writer: what it makes of any order of clusters is a sound archive for both readers
 * (slow-reader.h), and holds what went in.
 *
 * Input: flags, the number of slots, and a program of dumps.
 */
#include "fuzz/input.h"
#include "fuzz/slow-reader.h"
#include "fuzz/standalone.h"
#include "tests/unit/util.h"
#include "writer/writer.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define FLAG_VMSTATE  1
#define FLAG_PARTIAL  2
#define FLAG_CONFIG   4
#define FLAG_READABLE 8

#define CLUSTERS 12u
#define CLUSTER 65536u

typedef struct {
  guint n, clusters;
  guint64 size;
  gboolean vmstate;
  gboolean given[CLUSTERS];
  guint8 data[CLUSTERS * CLUSTER];
} Stream;

static Stream streams[3];

/* Blocks of what the input says, zeros among them. */
static void
fill (Input *input, guint8 *cluster)
{
  guint what = get (input), mask = (what & 1) != 0 ? get16 (input) : (what & 2) != 0 ? 0xffff : 0;

  for (guint bit = 0; bit < 16; bit++)
    memset (cluster + bit * 4096, (mask >> bit & 1) != 0 ? (int)(what | 0x80) : 0, 4096);
  if ((what & 4) != 0)
    cluster[get16 (input)] = 1;
}

/* The same call on a sound writer succeeds exactly where the model says so. */
static void
dump (VmaWriter *writer, Stream *s, guint8 id, Input *input)
{
  static guint8 data[4 * CLUSTER];
  guint first = get (input) % (CLUSTERS + 1), n = 1 + get (input) % 4;
  gboolean zeros = (get (input) & 1) != 0, right = first + n <= s->clusters;

  memset (data, 0, sizeof data);
  for (guint i = 0; !zeros && i < n; i++)
    fill (input, data + i * CLUSTER);
  /* Behind a stream's end there is nothing to be read. */
  if (!s->vmstate && (guint64)(first + n) * CLUSTER > s->size
      && s->size > (guint64)first * CLUSTER)
    memset (data + (s->size - (guint64)first * CLUSTER), 0,
            (gsize)((guint64)(first + n) * CLUSTER - s->size));
  if (s->vmstate)
    right = right && first == s->n;
  else
    for (guint i = 0; right && i < n; i++)
      right = !s->given[first + i];
  CHECK (vma_writer_dump (writer, id, first, n, zeros ? NULL : data, NULL) == right);
  for (guint i = 0; right && i < n; i++, s->n++) {
    s->given[first + i] = TRUE;
    memcpy (s->data + (gsize)(first + i) * CLUSTER, data + i * CLUSTER, CLUSTER);
  }
}

static void
check_stream (const SlowArchive *slow, VmaArchive *archive, guint8 id, const Stream *s)
{
  static guint8 got[CLUSTER];
  VmaImage *image = vma_archive_image (archive, id);

  for (guint i = 0; i < s->clusters; i++) {
    const SlowSlot *slot = slow_find (slow, id, i, 0);
    gsize size = s->vmstate ? CLUSTER : (gsize)MIN (CLUSTER, s->size - i * CLUSTER);

    CHECK ((slot != NULL) == s->given[i]);
    if (slot == NULL)
      continue;
    CHECK (slow_find (slow, id, i, 1) == NULL);
    CHECK (slow_content (slow, slot, got));
    CHECK (memcmp (got, s->data + i * CLUSTER, size) == 0);
    CHECK (vma_image_pread (image, got, CLUSTER, i * CLUSTER, NULL, NULL) == (gssize)size);
    CHECK (memcmp (got, s->data + i * CLUSTER, size) == 0);
  }
}

static void
check_file (const char *path, guint n, gboolean partial)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *bytes = NULL;
  gsize size;
  SlowArchive slow;

  CHECK (g_file_get_contents (path, &bytes, &size, NULL));
  slow_open (&slow, (const guint8 *)bytes, size, partial);
  CHECK (slow_read (&slow));
  /* A partial one alone is an archive with holes. */
  g_autoptr (VmaArchive) archive = util_open (path, partial, &error);
  CHECK (archive != NULL);
  for (guint i = 0; i < n; i++)
    check_stream (&slow, archive, (guint8)(i + 1), &streams[i]);
  slow_close (&slow);
}

static guint
add_streams (VmaWriter *writer, guint flags, Input *input)
{
  guint n = (flags & FLAG_VMSTATE) != 0 ? 3 : 2;

  for (guint i = 0; i < n; i++) {
    Stream *s = &streams[i];
    memset (s, 0, sizeof *s);
    s->vmstate = i == 2;
    s->size = s->vmstate ? 4096 : 1 + (get16 (input) * 13u) % (CLUSTERS * CLUSTER);
    s->clusters = s->vmstate ? CLUSTERS : (guint)((s->size - 1) / CLUSTER + 1);
    CHECK (vma_writer_register_stream (writer, i == 2 ? "vmstate" : i == 1 ? "b" : "a", s->size,
                                       NULL)
           == i + 1);
  }
  return n;
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  Input input = { bytes, size };
  guint flags = get (&input);
  char path[64];
  gboolean whole = TRUE;
  VmaWriterOptions options = { .ctime = 1,
                               .slots = get (&input) % 60,
                               .readable = (flags & FLAG_READABLE) != 0,
                               .partial = (flags & FLAG_PARTIAL) != 0 };

  g_snprintf (path, sizeof path, "/dev/shm/fuzz-writer-%d.vma", (int)getpid ());
  VmaWriter *writer = vma_writer_open (path, &options, NULL);
  CHECK (writer != NULL);
  if ((flags & FLAG_CONFIG) != 0)
    vma_writer_add_config (writer, "x", bytes, MIN (size, 70000), NULL);
  guint n = add_streams (writer, flags, &input);
  for (guint i = 0; i < 60 && input.left > 0; i++) {
    guint which = get (&input) % n;
    dump (writer, &streams[which], (guint8)(which + 1), &input);
  }
  for (guint i = 0; whole && i < n; i++) {
    gboolean all = streams[i].vmstate || options.partial || streams[i].n == streams[i].clusters;
    CHECK (vma_writer_close_stream (writer, (guint8)(i + 1), NULL) == all);
    whole = all;
  }
  if (whole) {
    CHECK (vma_writer_complete (writer, NULL));
    check_file (path, n, options.partial);
  }
  vma_writer_free (writer);
  CHECK (whole == (g_unlink (path) == 0));
  return 0;
}
