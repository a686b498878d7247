/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "index/index.h"

#include "index/lock.h"
#include "vma/error.h"
#include "vma/names.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

typedef _Atomic guint64 Counter;

typedef struct {
  Counter data, zero, bad, blocks, in_order, next;
} Counters;

struct VmaIndex {
  const VmaHeader *header;
  VmaMap *maps[VMA_MAX_DEVICES];
  Counters devices[VMA_MAX_DEVICES];
  Counters *vmstate; /* those of the device of that name, or NULL */
  gboolean vmstate_gaps;
  gboolean may_miss[VMA_MAX_DEVICES];
  guint64 memory_limit;
  Counter extents, bare_extents, end, position;

  _Atomic int state;
  Counter generation; /* grows with all that is added */
  atomic_int waiters;
  _Atomic int unread; /* places that the system would not read */

  pthread_mutex_t lock; /* of all below, and of the condition */
  pthread_cond_t changed;
  gint64 woken_us; /* when waiters were last told; the filling thread's */
  guint64 wakes;
  GError *failure;
  GPtrArray *damage;
};

/* A hostile archive can be all damage: from here on the last entry just grows. */
#define DAMAGE_MAX 100000

/* Waiters look again at most that often: a scan passes an extent every few microseconds. */
#define WAKE_INTERVAL_US 1000

static inline void
count (Counter *counter, guint64 n)
{
  /* One thread writes, so there is nothing to lose between load and store. */
  atomic_store_explicit (counter, atomic_load_explicit (counter, memory_order_relaxed) + n,
                         memory_order_relaxed);
}

static inline guint64
counted (const Counter *counter)
{
  return atomic_load_explicit ((Counter *) counter, memory_order_relaxed);
}

static void
damage_free (VmaDamage *damage)
{
  g_free (damage->reason);
  g_free (damage);
}

static VmaDamage *
damage_new (guint64 start, guint64 end, const char *reason)
{
  VmaDamage *damage = g_new (VmaDamage, 1);

  *damage = (VmaDamage){ .start = start, .end = end, .reason = g_strdup (reason) };
  return damage;
}

/* How many extents may pass unchecked: their clusters can claim 120 MiB. */
#define MEMORY_CHECK_EXTENTS 64

/*
 * An archive lists each cluster in 8 bytes, so a map can never be much larger than an honest archive;
 * but a hostile one can spread few clusters over many pages, or compress its headers.
 */
static guint64
memory_limit (void)
{
  return (guint64) sysconf (_SC_PHYS_PAGES) / 2 * (guint64) sysconf (_SC_PAGESIZE);
}

VmaIndex *
vma_index_new (const VmaHeader *header, GError **error)
{
  g_autoptr (VmaIndex) index = g_new0 (VmaIndex, 1);
  pthread_condattr_t attributes;

  index->header = header;
  index->damage = g_ptr_array_new_with_free_func ((GDestroyNotify) damage_free);
  pthread_mutex_init (&index->lock, NULL);
  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (&index->changed, &attributes);
  pthread_condattr_destroy (&attributes);

  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);

    if (device->is_vmstate)
      index->vmstate = &index->devices[device->id];
    index->maps[device->id] = vma_map_new (device->clusters);
    if (index->maps[device->id] == NULL) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                   "not enough memory for a map of device %u (%" G_GUINT64_FORMAT " bytes)",
                   device->id, device->size);
      return NULL;
    }
  }
  index->memory_limit = memory_limit ();
  atomic_store (&index->position, header->size);
  atomic_store (&index->end, header->size);
  return g_steal_pointer (&index);
}

void
vma_index_free (VmaIndex *index)
{
  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    g_clear_pointer (&index->maps[id], vma_map_free);
  g_clear_error (&index->failure);
  g_ptr_array_unref (index->damage);
  pthread_cond_destroy (&index->changed);
  pthread_mutex_destroy (&index->lock);
  g_free (index);
}

/* --- reading ----------------------------------------------------------------------------------- */

VmaIndexState
vma_index_state (VmaIndex *index)
{
  return (VmaIndexState) atomic_load_explicit (&index->state, memory_order_acquire);
}

GError *
vma_index_dup_failure (VmaIndex *index)
{
  VMA_LOCK (&index->lock);
  return index->failure != NULL ? g_error_copy (index->failure) : NULL;
}

VmaMap *
vma_index_map (VmaIndex *index, guint8 device)
{
  return index->maps[device];
}

VmaEntry
vma_index_lookup (VmaIndex *index, guint8 device, guint64 cluster, guint64 *end, gboolean *pending)
{
  /* The state first: what is missing after the end was seen is missing for good. */
  VmaIndexState state = vma_index_state (index);
  VmaEntry entry = vma_map_get_run (index->maps[device], cluster, end);

  *pending = entry == VMA_ENTRY_MISSING && state == VMA_INDEX_BUILDING;
  return entry;
}

void
vma_index_get_counts (VmaIndex *index, VmaIndexCounts *counts)
{
  *counts = (VmaIndexCounts){
    .extents = counted (&index->extents),
    .bare_extents = counted (&index->bare_extents),
    .end = counted (&index->end),
  };
}

void
vma_index_get_device_counts (VmaIndex *index, guint8 device, VmaDeviceCounts *counts)
{
  const Counters *c = &index->devices[device];

  *counts = (VmaDeviceCounts){
    .data = counted (&c->data),
    .zero = counted (&c->zero),
    .bad = counted (&c->bad),
    .blocks = counted (&c->blocks),
    .in_order = counted (&c->in_order),
    .next = counted (&c->next),
  };
}

guint64
vma_index_missing (VmaIndex *index, guint8 device)
{
  const VmaDevice *d = index->header->by_id[device];
  VmaDeviceCounts c;

  vma_index_get_device_counts (index, device, &c);
  return (d->is_vmstate ? c.next : d->clusters) - c.data - c.zero - c.bad;
}

guint64
vma_index_position (VmaIndex *index)
{
  return counted (&index->position);
}

GPtrArray *
vma_index_dup_damage (VmaIndex *index)
{
  GPtrArray *copy = g_ptr_array_new_with_free_func ((GDestroyNotify) damage_free);

  VMA_LOCK (&index->lock);
  for (guint i = 0; i < index->damage->len; i++) {
    const VmaDamage *damage = g_ptr_array_index (index->damage, i);
    g_ptr_array_add (copy, damage_new (damage->start, damage->end, damage->reason));
  }
  return copy;
}

guint
vma_index_damage_count (VmaIndex *index)
{
  VMA_LOCK (&index->lock);
  return index->damage->len;
}

gsize
vma_index_memory (VmaIndex *index)
{
  gsize memory = 0;

  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (index->maps[id] != NULL)
      memory += vma_map_memory (index->maps[id]);
  return memory;
}

gboolean
vma_index_wait (VmaIndex *index, guint64 *seen, guint timeout_ms)
{
  struct timespec until;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += timeout_ms / 1000;
  until.tv_nsec += (timeout_ms % 1000) * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }

  /* Sequentially consistent with wake_waiters(): either it sees the waiter, or we see its news. */
  atomic_fetch_add (&index->waiters, 1);
  pthread_mutex_lock (&index->lock);
  guint64 wakes = index->wakes;
  while (atomic_load (&index->generation) == *seen && wakes == index->wakes
         && vma_index_state (index) == VMA_INDEX_BUILDING)
    if (pthread_cond_timedwait (&index->changed, &index->lock, &until) != 0)
      break;
  pthread_mutex_unlock (&index->lock);
  atomic_fetch_sub (&index->waiters, 1);

  *seen = atomic_load (&index->generation);
  return vma_index_state (index) != VMA_INDEX_BUILDING;
}

void
vma_index_wake (VmaIndex *index)
{
  VMA_LOCK (&index->lock);
  index->wakes++;
  pthread_cond_broadcast (&index->changed);
}

gboolean
vma_index_wait_finished (VmaIndex *index, GCancellable *cancellable, GError **error)
{
  guint64 seen = 0;

  while (!vma_index_wait (index, &seen, 100))
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return FALSE;
    }
  GError *failure = vma_index_dup_failure (index);
  if (failure == NULL)
    return TRUE;
  g_propagate_error (error, failure);
  return FALSE;
}

/* --- filling ----------------------------------------------------------------------------------- */

/* Tells waiters that something was added, but not more often than they can use. */
static void
note_progress (VmaIndex *index)
{
  atomic_fetch_add (&index->generation, 1);
  if (atomic_load (&index->waiters) == 0)
    return;
  gint64 now = g_get_monotonic_time ();
  if (now - index->woken_us < WAKE_INTERVAL_US)
    return;
  index->woken_us = now;
  vma_index_wake (index);
}

/*
 * A cluster twice in one extent.  Writers list them ascending per device nearly always, so the square
 * is paid for 59 slots at most, and rarely.
 */
static const VmaSlot *
find_repeated (const VmaExtent *extent)
{
  guint32 i;

  for (i = 1; i < extent->n_slots; i++) {
    const VmaSlot *a = &extent->slots[i - 1], *b = &extent->slots[i];
    if (a->device > b->device || (a->device == b->device && a->cluster >= b->cluster))
      break;
  }
  for (; i < extent->n_slots; i++)
    for (guint32 k = 0; k < i; k++)
      if (extent->slots[k].cluster == extent->slots[i].cluster
          && extent->slots[k].device == extent->slots[i].device)
        return &extent->slots[i];
  return NULL;
}

/* Mask bits that may be set in a cluster of a device. */
static guint16
allowed_mask (const VmaDevice *device, guint64 cluster)
{
  guint64 start = cluster * VMA_CLUSTER_SIZE;

  if (device->is_vmstate || device->size - start >= VMA_CLUSTER_SIZE)
    return VMA_FULL_MASK;
  guint blocks = (guint) ((device->size - start + VMA_BLOCK_SIZE - 1) / VMA_BLOCK_SIZE);
  return (guint16) ((1u << blocks) - 1);
}

void
vma_index_allow_vmstate_gaps (VmaIndex *index)
{
  index->vmstate_gaps = TRUE;
}

/* The slots from `first` on that list clusters of one device one after another. */
static guint32
run_length (const VmaExtent *extent, guint32 first)
{
  const VmaSlot *slot = &extent->slots[first];
  guint32 n = 1;

  while (first + n < extent->n_slots && slot[n].device == slot->device
         && slot[n].cluster == (guint64) slot->cluster + n)
    n++;
  return n;
}

/* Why a run of slots does not fit, and with which of its clusters; NULL where it does. */
static const char *
find_unfit (VmaIndex *index, const VmaSlot *slots, guint32 n, guint64 *vmstate_next,
            guint64 *cluster)
{
  const VmaDevice *device = index->header->by_id[slots->device];
  guint64 first = slots->cluster, last = first + n - 1;

  *cluster = first;
  if (device == NULL)
    return "is of a device that the archive does not have";
  if (device->is_vmstate) {
    if (first < *vmstate_next || (first > *vmstate_next && !index->vmstate_gaps))
      return "of the VM state is out of order";
    *vmstate_next = first + n;
  }
  if (last >= device->clusters) {
    *cluster = MAX (first, device->clusters);
    return "is beyond the end of its device";
  }
  /* Only a device's last cluster can reach beyond its end. */
  if ((slots[n - 1].mask & ~allowed_mask (device, last)) != 0) {
    *cluster = last;
    return "has blocks beyond the end of its device";
  }
  if (!vma_map_all_missing (index->maps[slots->device], first, n)) {
    while (vma_map_get (index->maps[slots->device], *cluster) == VMA_ENTRY_MISSING)
      (*cluster)++;
    return "is listed twice";
  }
  return NULL;
}

gboolean
vma_index_check_extent (VmaIndex *index, const VmaExtent *extent, GError **error)
{
  guint64 vmstate_next = index->vmstate != NULL ? counted (&index->vmstate->next) : 0;

  for (guint32 i = 0, n; i < extent->n_slots; i += n) {
    const VmaSlot *slots = &extent->slots[i];
    guint64 cluster;

    n = run_length (extent, i);
    const char *reason = find_unfit (index, slots, n, &vmstate_next, &cluster);
    if (reason != NULL) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                   "cluster %" G_GUINT64_FORMAT " of device %u %s", cluster, slots->device, reason);
      return FALSE;
    }
  }
  const VmaSlot *repeated = find_repeated (extent);
  if (repeated != NULL) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "cluster %u of device %u is listed twice",
                 repeated->cluster, repeated->device);
    return FALSE;
  }
  return TRUE;
}

/* Adds slots that run_length() found to belong together. */
static void
add_run (VmaIndex *index, const VmaSlot *slots, guint32 n, guint64 extent_offset)
{
  Counters *c = &index->devices[slots->device];
  VmaEntry entries[VMA_EXTENT_SLOTS];
  guint data = 0, blocks = 0;

  for (guint32 i = 0; i < n; i++) {
    entries[i] = vma_entry_make (extent_offset + slots[i].offset, slots[i].mask);
    data += slots[i].mask != 0;
    blocks += vma_mask_blocks (slots[i].mask);
  }
  vma_map_set (index->maps[slots->device], slots->cluster, entries, n);
  count (&c->data, data);
  count (&c->zero, n - data);
  count (&c->blocks, blocks);
  count (&c->in_order, n - 1 + (slots->cluster == counted (&c->next)));
  atomic_store_explicit (&c->next, (guint64) slots->cluster + n, memory_order_relaxed);
}

/* Takes back whatever the map says of this cluster. */
static void
spoil_slot (VmaIndex *index, const VmaSlot *slot)
{
  const VmaDevice *device = index->header->by_id[slot->device];
  Counters *c = &index->devices[slot->device];

  if (device == NULL || slot->cluster >= device->clusters)
    return;
  if (device->is_vmstate && slot->cluster >= counted (&c->next))
    return; /* nothing known to spoil, and the stream ends before it */
  VmaEntry old = vma_map_get (index->maps[slot->device], slot->cluster);
  if (old == VMA_ENTRY_BAD)
    return;
  if (old == VMA_ENTRY_ZERO)
    count (&c->zero, (guint64) -1);
  else if (vma_entry_is_data (old)) {
    count (&c->data, (guint64) -1);
    count (&c->blocks, -(guint64) vma_mask_blocks (vma_entry_mask (old)));
  }
  count (&c->bad, 1);
  vma_map_set_bad (index->maps[slot->device], slot->cluster);
}

static void
count_extent (VmaIndex *index, const VmaExtent *extent, guint64 offset)
{
  count (&index->extents, 1);
  count (&index->bare_extents, extent->size == VMA_EXTENT_HEADER_SIZE);
  atomic_store_explicit (&index->end, offset + extent->size, memory_order_relaxed);
  note_progress (index);
}

gboolean
vma_index_check_memory (VmaIndex *index, GError **error)
{
  guint64 used = 0;

  if (counted (&index->extents) % MEMORY_CHECK_EXTENTS != 0)
    return TRUE;
  for (guint i = 0; i < index->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (index->header->devices, i);
    used += vma_map_page_memory (index->maps[device->id]);
  }
  if (used <= index->memory_limit)
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
               "the cluster maps need more than half of this machine's memory");
  return FALSE;
}

void
vma_index_add_extent (VmaIndex *index, const VmaExtent *extent, guint64 offset)
{
  for (guint32 i = 0, n; i < extent->n_slots; i += n) {
    n = run_length (extent, i);
    add_run (index, &extent->slots[i], n, offset);
  }
  count_extent (index, extent, offset);
}

void
vma_index_add_broken_extent (VmaIndex *index, const VmaExtent *extent, guint64 offset, guint64 end)
{
  for (guint32 i = 0; i < extent->n_slots; i++) {
    const VmaSlot *slot = &extent->slots[i];
    guint64 vmstate_next = counted (&index->devices[slot->device].next), cluster;
    guint64 slot_end
        = offset + slot->offset + (guint64) vma_mask_blocks (slot->mask) * VMA_BLOCK_SIZE;

    /* That a cluster is zero stands in the header itself. */
    if ((slot->mask == 0 || slot_end <= end)
        && find_unfit (index, slot, 1, &vmstate_next, &cluster) == NULL)
      add_run (index, slot, 1, offset);
    else
      spoil_slot (index, slot);
  }
  count_extent (index, extent, offset);
}

void
vma_index_add_damage (VmaIndex *index, guint64 start, guint64 end, const char *reason)
{
  VMA_LOCK (&index->lock);
  if (index->damage->len < DAMAGE_MAX) {
    g_ptr_array_add (index->damage, damage_new (start, end, reason));
    return;
  }
  VmaDamage *last = g_ptr_array_index (index->damage, index->damage->len - 1);
  last->end = MAX (last->end, end);
}

void
vma_index_note_unread (VmaIndex *index)
{
  atomic_store (&index->unread, TRUE);
}

gboolean
vma_index_may_be_saved (VmaIndex *index)
{
  return !atomic_load (&index->unread);
}

void
vma_index_set_position (VmaIndex *index, guint64 position)
{
  atomic_store_explicit (&index->position, position, memory_order_relaxed);
}

static void
finish (VmaIndex *index, const GError *failure)
{
  VMA_LOCK (&index->lock);
  if (failure != NULL)
    index->failure = g_error_copy (failure);
  atomic_store_explicit (&index->state, failure != NULL ? VMA_INDEX_FAILED : VMA_INDEX_COMPLETE,
                         memory_order_release);
  pthread_cond_broadcast (&index->changed);
}

/* The first device with missing clusters, as an error; NULL where all is there. */
static GError *
missing_error (VmaIndex *index)
{
  for (guint i = 0; i < index->header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (index->header->devices, i);
    guint64 missing = vma_index_missing (index, device->id), cluster = 0, end;

    if (missing == 0 || index->may_miss[device->id])
      continue;
    while (cluster < device->clusters
           && vma_map_get_run (index->maps[device->id], cluster, &end) != VMA_ENTRY_MISSING)
      cluster = end;
    g_autofree char *name = vma_name_escape (device->name);
    return g_error_new (VMA_ERROR, VMA_ERROR_MISSING,
                        "archive ends at %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT
                        " of %" G_GUINT64_FORMAT " clusters of %s are missing, the first is %"
                        G_GUINT64_FORMAT,
                        counted (&index->end), missing, device->clusters, name, cluster);
  }
  return NULL;
}

void
vma_index_allow_missing (VmaIndex *index, guint8 device)
{
  index->may_miss[device] = TRUE;
}

gboolean
vma_index_complete (VmaIndex *index, gboolean strict, GError **error)
{
  GError *missing = strict ? missing_error (index) : NULL;

  for (guint id = 0; id < VMA_MAX_DEVICES; id++)
    if (index->maps[id] != NULL)
      vma_map_finish (index->maps[id]);
  finish (index, missing);
  if (missing == NULL)
    return TRUE;
  g_propagate_error (error, missing);
  return FALSE;
}

void
vma_index_fail (VmaIndex *index, const GError *failure)
{
  finish (index, failure);
}

void
vma_index_set_counts (VmaIndex *index, const VmaIndexCounts *counts)
{
  atomic_store (&index->extents, counts->extents);
  atomic_store (&index->bare_extents, counts->bare_extents);
  atomic_store (&index->end, counts->end);
  atomic_store (&index->position, counts->end);
}

void
vma_index_set_device_counts (VmaIndex *index, guint8 device, const VmaDeviceCounts *counts)
{
  Counters *c = &index->devices[device];

  atomic_store (&c->data, counts->data);
  atomic_store (&c->zero, counts->zero);
  atomic_store (&c->bad, counts->bad);
  atomic_store (&c->blocks, counts->blocks);
  atomic_store (&c->in_order, counts->in_order);
  atomic_store (&c->next, counts->next);
}
