/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/synth.h"

#include "source/source-impl.h"
#include "vma/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

const guint8 synth_uuid[16] = { 0x5a, 0x01, 0xff, 0x00, 0x80, 0x7f, 0x10, 0x20,
                                'V',  'M',  'A',  'E',  0x0d, 0x0a, 0x1a, 0xfe };

void
synth_put16 (guint8 *p, guint value)
{
  p[0] = (guint8) (value / 256 % 256);
  p[1] = (guint8) (value % 256);
}

void
synth_put32 (guint8 *p, guint32 value)
{
  synth_put16 (p, value >> 16);
  synth_put16 (p + 2, value & 0xffff);
}

void
synth_put64 (guint8 *p, guint64 value)
{
  synth_put32 (p, (guint32) (value >> 32));
  synth_put32 (p + 4, (guint32) (value & 0xffffffff));
}

guint32
synth_get32 (const guint8 *p)
{
  return ((p[0] * 256u + p[1]) * 256u + p[2]) * 256u + p[3];
}

void
synth_sum (guint8 *data, gsize size, gsize field)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_MD5);
  gsize length = 16;

  memset (data + field, 0, length);
  g_checksum_update (sum, data, (gssize) size);
  g_checksum_get_digest (sum, data + field, &length);
}

void
synth_block (guint32 seed, guint device, guint64 cluster, guint block, guint8 *out)
{
  guint64 x = (seed * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15)) ^ ((guint64) device << 56)
              ^ (cluster << 8) ^ block;

  for (guint i = 0; i < 3; i++) {
    x ^= x >> 31;
    x *= G_GUINT64_CONSTANT (0xd6e8feb86659fd93);
  }
  x |= 1;
  for (guint i = 0; i < 4096; i += 8) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    memcpy (out + i, &x, 8);
  }
}

/* Whether this is valgrind, an emulator, or a very old machine: by what some checksums cost. */
static gboolean
is_slow (void)
{
  guint8 bytes[512] = { 0 };
  clock_t start = clock ();

  for (guint i = 0; i < 2000; i++)
    synth_sum (bytes, sizeof bytes, 0);
  return clock () - start > CLOCKS_PER_SEC / 100;
}

double
synth_scale (void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return 1.0 / 16;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return 1.0 / 16;
#endif
#endif
  static double scale;

  if (scale == 0)
    scale = is_slow () ? 1.0 / 64 : 1;
  return scale;
}

/* --- headers ----------------------------------------------------------------------------------- */

SynthHeader *
synth_header_new (void)
{
  SynthHeader *header = g_new0 (SynthHeader, 1);

  memcpy (header->fixed, "VMA", 4);
  synth_put32 (header->fixed + 4, 1);
  memcpy (header->fixed + 8, synth_uuid, 16);
  synth_put64 (header->fixed + 24, 1234567890);
  header->blobs = g_byte_array_new ();
  g_byte_array_append (header->blobs, (const guint8 *) "", 1);
  return header;
}

void
synth_header_free (SynthHeader *header)
{
  g_byte_array_unref (header->blobs);
  g_free (header);
}

guint32
synth_header_blob (SynthHeader *header, const void *data, gsize size)
{
  guint32 pointer = header->blobs->len;
  const guint8 length[2] = { (guint8) (size & 0xff), (guint8) (size >> 8) }; /* little-endian */

  g_assert_cmpuint (size, <=, 65535);
  g_byte_array_append (header->blobs, length, 2);
  g_byte_array_append (header->blobs, data, (guint) size);
  return pointer;
}

void
synth_header_device (SynthHeader *header, guint id, const char *name, guint64 size)
{
  guint8 *info = header->fixed + 4096 + 32 * id;

  synth_put32 (info, synth_header_blob (header, name, strlen (name) + 1));
  synth_put64 (info + 8, size);
}

void
synth_header_config (SynthHeader *header, guint slot, const char *name, const void *data,
                     gsize size)
{
  synth_put32 (header->fixed + 2044 + 4 * slot,
               synth_header_blob (header, name, strlen (name) + 1));
  synth_put32 (header->fixed + 3068 + 4 * slot, synth_header_blob (header, data, size));
}

GByteArray *
synth_header_bytes (SynthHeader *header)
{
  GByteArray *bytes = g_byte_array_new ();
  guint32 used = header->blobs->len, rounded = (used + 511) & ~511u;

  g_byte_array_append (bytes, header->fixed, sizeof header->fixed);
  g_byte_array_append (bytes, header->blobs->data, used);
  g_byte_array_set_size (bytes, 12288 + rounded);
  memset (bytes->data + 12288 + used, 0, rounded - used);
  synth_put32 (bytes->data + 48, 12288);
  synth_put32 (bytes->data + 52, used);
  synth_put32 (bytes->data + 56, 12288 + rounded);
  synth_sum (bytes->data, bytes->len, 32);
  return bytes;
}

/* --- extents ----------------------------------------------------------------------------------- */

void
synth_extent (guint8 out[512], const SynthSlot *slots, guint n)
{
  guint blocks = 0;

  g_assert_cmpuint (n, <=, 59);
  memset (out, 0, 512);
  memcpy (out, "VMAE", 4);
  memcpy (out + 8, synth_uuid, 16);
  for (guint i = 0; i < n; i++) {
    guint8 *slot = out + 40 + 8 * i;
    if (slots[i].device == 0)
      continue;
    synth_put16 (slot, slots[i].mask);
    slot[3] = (guint8) slots[i].device;
    synth_put32 (slot + 4, slots[i].cluster);
    for (guint bit = 0; bit < 16; bit++)
      blocks += slots[i].mask >> bit & 1;
  }
  synth_put16 (out + 6, blocks);
  synth_sum (out, 512, 24);
}

void
synth_append_extent (GByteArray *archive, guint32 seed, const SynthSlot *slots, guint n)
{
  guint8 header[512], block[4096];

  synth_extent (header, slots, n);
  g_byte_array_append (archive, header, sizeof header);
  for (guint i = 0; i < n; i++)
    for (guint bit = 0; slots[i].device != 0 && bit < 16; bit++)
      if ((slots[i].mask >> bit & 1) != 0) {
        synth_block (seed, slots[i].device, slots[i].cluster, bit, block);
        g_byte_array_append (archive, block, sizeof block);
      }
}

/* --- archives ---------------------------------------------------------------------------------- */

static guint16
random_mask (GRand *rand, guint density, guint64 left)
{
  guint16 mask = 0xffff;

  if ((guint) g_rand_int_range (rand, 0, 100) >= density)
    return 0;
  if (g_rand_boolean (rand))
    mask = (guint16) g_rand_int_range (rand, 1, 0x10000);
  for (guint bit = 0; bit < 16; bit++) /* nothing behind the device's end */
    if (bit * G_GUINT64_CONSTANT (4096) >= left)
      mask = (guint16) (mask & ~(1u << bit));
  return mask;
}

static SynthDisk
random_disk (const SynthLayout *layout, GRand *rand, guint id, gboolean vmstate)
{
  SynthDisk disk = { .id = id, .vmstate = vmstate };

  disk.clusters = (guint32) g_rand_int_range (rand, 1, (gint32) layout->max_clusters + 1);
  disk.size = disk.clusters * G_GUINT64_CONSTANT (65536);
  if (!vmstate && g_rand_boolean (rand))
    disk.size -= (guint64) g_rand_int_range (rand, 0, 65536);
  disk.masks = g_new (guint16, disk.clusters);
  for (guint32 i = 0; i < disk.clusters; i++)
    disk.masks[i] = random_mask (rand, layout->density, disk.size - i * G_GUINT64_CONSTANT (65536));
  return disk;
}

/* Clusters of a disk in the order of their writing. */
static guint32 *
random_order (const SynthLayout *layout, GRand *rand, const SynthDisk *disk)
{
  guint32 *order = g_new (guint32, disk->clusters);

  for (guint32 i = 0; i < disk->clusters; i++)
    order[i] = i;
  for (guint32 i = disk->clusters; layout->shuffled && !disk->vmstate && i > 1; i--) {
    guint32 k = (guint32) g_rand_int_range (rand, 0, (gint32) i), t = order[i - 1];
    order[i - 1] = order[k];
    order[k] = t;
  }
  return order;
}

static void
end_extent (SynthArchive *archive, SynthSlot *slots, guint *n)
{
  if (*n == 0)
    return;
  g_array_append_val (archive->extents, archive->bytes->len);
  synth_append_extent (archive->bytes, archive->seed, slots, *n);
  *n = 0;
}

static void
append_extents (SynthArchive *archive, const SynthLayout *layout, GRand *rand)
{
  guint n_disks = archive->disks->len, open = n_disks, n = 0, used = 0;
  g_autofree guint32 *done = g_new0 (guint32, n_disks);
  g_autoptr (GPtrArray) orders = g_ptr_array_new_with_free_func (g_free);
  SynthSlot slots[59];

  for (guint i = 0; i < n_disks; i++)
    g_ptr_array_add (orders,
                     random_order (layout, rand, &g_array_index (archive->disks, SynthDisk, i)));
  for (guint at = 0; open > 0;) {
    SynthDisk *disk = &g_array_index (archive->disks, SynthDisk, at);
    if (done[at] < disk->clusters) {
      guint32 cluster = ((guint32 *) g_ptr_array_index (orders, at))[done[at]++];

      while (layout->gaps && n < 58 && g_rand_int_range (rand, 0, 3) == 0)
        slots[n++] = (SynthSlot){ 0 };
      slots[n++] = (SynthSlot){ disk->id, cluster, disk->masks[cluster] };
      if (++used == layout->slots || n == 59) {
        end_extent (archive, slots, &n);
        used = 0;
      }
      open -= done[at] == disk->clusters;
    }
    if (layout->interleaved)
      at = (guint) g_rand_int_range (rand, 0, (gint32) n_disks);
    else if (done[at] == disk->clusters)
      at++;
  }
  end_extent (archive, slots, &n);
}

SynthArchive *
synth_archive_new (const SynthLayout *layout)
{
  SynthArchive *archive = g_new0 (SynthArchive, 1);
  g_autoptr (GRand) rand = g_rand_new_with_seed (layout->seed);
  g_autoptr (SynthHeader) header = synth_header_new ();
  guint total = layout->n_devices + (layout->vmstate ? 1 : 0);
  guint vmstate = layout->vmstate ? (guint) g_rand_int_range (rand, 0, (gint32) total) : total;

  archive->seed = layout->seed;
  archive->disks = g_array_new (FALSE, FALSE, sizeof (SynthDisk));
  archive->extents = g_array_new (FALSE, FALSE, sizeof (guint32));
  for (guint i = 0, last = 0; i < total; i++) {
    /* Ascending, and room for those to come. */
    guint id
        = (guint) g_rand_int_range (rand, (gint32) last + 1, (gint32) (254 - (total - 1 - i)) + 1);
    g_autofree char *name = g_strdup_printf ("drive-scsi%u", i);
    SynthDisk disk = random_disk (layout, rand, id, i == vmstate);

    /* The header's size of vmstate is but an estimate. */
    synth_header_device (header, id, disk.vmstate ? "vmstate" : name,
                         disk.vmstate ? 4096 : disk.size);
    g_array_append_val (archive->disks, disk);
    last = id;
  }
  archive->bytes = synth_header_bytes (header);
  append_extents (archive, layout, rand);
  g_array_append_val (archive->extents, archive->bytes->len);
  return archive;
}

void
synth_archive_free (SynthArchive *archive)
{
  for (guint i = 0; i < archive->disks->len; i++)
    g_free (g_array_index (archive->disks, SynthDisk, i).masks);
  g_array_unref (archive->disks);
  g_array_unref (archive->extents);
  g_byte_array_unref (archive->bytes);
  g_free (archive);
}

guint32
synth_archive_extent (const SynthArchive *archive, guint i)
{
  return g_array_index (archive->extents, guint32, i);
}

void
synth_truth (const SynthArchive *archive, const SynthDisk *disk, guint64 offset, gsize size,
             guint8 *out)
{
  g_assert_cmpuint (offset + size, <=, disk->size);
  while (size > 0) {
    guint64 cluster = offset / 65536;
    guint block = (guint) (offset % 65536 / 4096), within = (guint) (offset % 4096);
    gsize n = MIN (size, 4096 - within);
    guint8 content[4096] = { 0 };

    if ((disk->masks[cluster] >> block & 1) != 0)
      synth_block (archive->seed, disk->id, cluster, block, content);
    memcpy (out, content + within, n);
    out += n;
    offset += n;
    size -= n;
  }
}

static void
check_cluster (const SynthArchive *archive, const SynthDisk *disk, guint32 cluster, VmaEntry entry,
               const guint8 *bytes, gsize size)
{
  guint16 mask = disk->masks[cluster];
  guint64 at = entry >> 16;
  guint8 content[4096];

  if (entry == VMA_ENTRY_ZERO) {
    g_assert_cmphex (mask, ==, 0);
    return;
  }
  g_assert_cmphex (entry & 0xffff, ==, mask);
  g_assert_cmphex (mask, !=, 0);
  for (guint bit = 0; bit < 16; bit++)
    if ((mask >> bit & 1) != 0) {
      g_assert_cmpuint (at + 4096, <=, size);
      synth_block (archive->seed, disk->id, cluster, bit, content);
      g_assert_cmpmem (bytes + at, 4096, content, 4096);
      at += 4096;
    }
}

guint
synth_check_index (const SynthArchive *archive, VmaIndex *index, const guint8 *bytes, gsize size)
{
  guint lost = 0;

  for (guint i = 0; i < archive->disks->len; i++) {
    const SynthDisk *disk = &g_array_index (archive->disks, SynthDisk, i);
    for (guint32 cluster = 0; cluster < disk->clusters; cluster++) {
      gboolean pending;
      guint64 end;
      VmaEntry entry = vma_index_lookup (index, (guint8) disk->id, cluster, &end, &pending);

      g_assert_cmpuint (end, >, cluster);
      if (entry == VMA_ENTRY_MISSING || entry == VMA_ENTRY_BAD || entry == VMA_ENTRY_LOST)
        lost++;
      else
        check_cluster (archive, disk, cluster, entry, bytes, size);
    }
  }
  return lost;
}

/* --- the source -------------------------------------------------------------------------------- */

struct SynthSource {
  VmaSource base;
  SynthFill fill;
  gpointer data;
  guint64 size, end;
  guint64 bad_start, bad_end;
  atomic_uint fail_after; /* 0: never */
  int fail_code;
  gboolean fail_on; /* and all reads from then on */
  gboolean hidden;
  atomic_bool end_seen;
  atomic_ullong reads, bytes;

  pthread_mutex_t lock; /* of the gate */
  pthread_cond_t moved;
  guint64 gate;
};

static void
fill_from_memory (gpointer data, guint8 *buffer, gsize size, guint64 offset)
{
  memcpy (buffer, (const guint8 *) data + offset, size);
}

static gboolean
pass_gate (SynthSource *source, guint64 offset, GCancellable *cancellable)
{
  gboolean cancelled = FALSE;

  pthread_mutex_lock (&source->lock);
  while (offset >= source->gate && !(cancelled = g_cancellable_is_cancelled (cancellable))) {
    struct timespec until;
    clock_gettime (CLOCK_REALTIME, &until);
    until.tv_nsec += 2000000;
    if (until.tv_nsec >= 1000000000) {
      until.tv_sec++;
      until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait (&source->moved, &source->lock, &until);
  }
  pthread_mutex_unlock (&source->lock);
  return !cancelled;
}

static gssize
synth_pread (VmaSource *base, void *buffer, gsize size, guint64 offset,
             VmaReadHint hint G_GNUC_UNUSED, GCancellable *cancellable, GError **error)
{
  SynthSource *source = (SynthSource *) base;
  unsigned fail = atomic_load (&source->fail_after);

  atomic_fetch_add (&source->reads, 1);
  if (!pass_gate (source, offset, cancellable)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
    return -1;
  }
  if (fail > (source->fail_on ? 1 : 0))
    atomic_store (&source->fail_after, fail - 1);
  if (fail == 1) {
    g_set_error (error, VMA_ERROR, source->fail_code, "no read at %" G_GUINT64_FORMAT, offset);
    return -1;
  }
  if (offset < source->bad_end && MIN (offset + size, source->end) > source->bad_start) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_IO, "cannot read at %" G_GUINT64_FORMAT, offset);
    return -1;
  }
  if (offset + size >= source->end)
    atomic_store (&source->end_seen, true);
  if (offset >= source->end)
    return 0;
  size = (gsize) MIN (size, source->end - offset);
  source->fill (source->data, buffer, size, offset);
  atomic_fetch_add (&source->bytes, size);
  return (gssize) size;
}

static guint64
synth_size (VmaSource *base)
{
  SynthSource *source = (SynthSource *) base;

  return source->hidden && !atomic_load (&source->end_seen) ? VMA_SIZE_UNKNOWN : source->size;
}

static const VmaSourceOps synth_ops = { .kind = "synth", .pread = synth_pread, .size = synth_size };
static const VmaSourceOps far_ops
    = { .kind = "synth", .requests = 16, .pread = synth_pread, .size = synth_size };

SynthSource *
synth_source_new_virtual (guint64 size, SynthFill fill, gpointer data)
{
  SynthSource *source = g_new0 (SynthSource, 1);

  source->base.ops = &synth_ops;
  atomic_init (&source->base.refs, 1);
  source->fill = fill;
  source->data = data;
  source->size = source->end = size;
  source->gate = G_MAXUINT64;
  pthread_mutex_init (&source->lock, NULL);
  pthread_cond_init (&source->moved, NULL);
  return source;
}

SynthSource *
synth_source_new (const guint8 *bytes, guint64 size)
{
  return synth_source_new_virtual (size, fill_from_memory, (gpointer) bytes);
}

VmaSource *
synth_source_base (SynthSource *source)
{
  return &source->base;
}

void
synth_source_free (SynthSource *source)
{
  pthread_cond_destroy (&source->moved);
  pthread_mutex_destroy (&source->lock);
  g_free (source);
}

void
synth_source_set_bad (SynthSource *source, guint64 start, guint64 end)
{
  source->bad_start = start;
  source->bad_end = end;
}

void
synth_source_fail_read (SynthSource *source, guint n)
{
  synth_source_fail_with (source, n, VMA_ERROR_IO, FALSE);
}

void
synth_source_fail_with (SynthSource *source, guint n, int code, gboolean on)
{
  source->fail_code = code;
  source->fail_on = on;
  atomic_store (&source->fail_after, n);
}

void
synth_source_cut_off (SynthSource *source, guint64 end)
{
  source->end = end;
}

void
synth_source_hide_size (SynthSource *source)
{
  source->hidden = TRUE;
}

void
synth_source_set_gate (SynthSource *source, guint64 gate)
{
  pthread_mutex_lock (&source->lock);
  source->gate = gate;
  pthread_cond_broadcast (&source->moved);
  pthread_mutex_unlock (&source->lock);
}

guint64
synth_source_reads (SynthSource *source)
{
  return atomic_load (&source->reads);
}

guint64
synth_source_bytes (SynthSource *source)
{
  return atomic_load (&source->bytes);
}

void
synth_source_set_far (SynthSource *source)
{
  source->base.ops = &far_ops;
}
