/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/parts.h"

#include "base/thread.h"
#include "fuse/log.h"
#include "guest/guest.h"
#include "index/lock.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

struct VmaParts {
  VmaArchive *archive;
  VmaTree *tree;
  GCancellable *cancel;
  atomic_bool finished;
  pthread_mutex_t lock; /* of what follows */
  pthread_cond_t ended;
  gboolean started, running;
  pthread_t thread;
};

/* "disk-drive-scsi0.raw" and "p2" are "disk-drive-scsi0.p2.raw". */
static char *
file_name (VmaArchive *archive, const VmaGuestVolume *v)
{
  const char *disk
      = vma_names_device (vma_archive_names (archive), vma_image_device (v->image)->id);
  gsize stem = g_str_has_suffix (disk, ".raw") ? strlen (disk) - strlen (".raw") : strlen (disk);
  g_autofree char *part = g_strdelimit (g_strdup (v->name), "/", '-');

  return g_strdup_printf ("%.*s.%s.raw", (int) stem, disk, part);
}

static GPtrArray *
make_windows (VmaArchive *archive, const VmaGuest *guest)
{
  GPtrArray *windows = g_ptr_array_new ();

  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
    if (disk->problem != NULL)
      vma_log ("%s", disk->problem);
    for (guint i = 0; i < disk->volumes->len; i++) {
      const VmaGuestVolume *v = g_ptr_array_index (disk->volumes, i);
      if (!v->is_window || v->kind == VMA_GUEST_WHOLE)
        continue;
      VmaTreeWindow *window = g_new0 (VmaTreeWindow, 1);
      window->name = file_name (archive, v);
      window->image = vma_image_new_window (v->image, v->offset, v->length);
      g_ptr_array_add (windows, window);
    }
  }
  return windows;
}

static void *
search (void *data)
{
  VmaParts *parts = data;
  g_autoptr (VmaGuest) guest = vma_guest_probe (parts->archive, NULL, parts->cancel, NULL);

  if (guest != NULL)
    vma_tree_add_windows (parts->tree, make_windows (parts->archive, guest));
  VMA_LOCK (&parts->lock);
  atomic_store (&parts->finished, TRUE);
  pthread_cond_broadcast (&parts->ended);
  return NULL;
}

VmaParts *
vma_parts_new (VmaArchive *archive, VmaTree *tree)
{
  VmaParts *parts = g_new0 (VmaParts, 1);

  parts->archive = archive;
  parts->tree = tree;
  parts->cancel = g_cancellable_new ();
  pthread_mutex_init (&parts->lock, NULL);
  pthread_cond_init (&parts->ended, NULL);
  return parts;
}

void
vma_parts_start (VmaParts *parts)
{
  VMA_LOCK (&parts->lock);

  if (parts->started)
    return;
  parts->started = TRUE;
  vma_archive_start_index (parts->archive);
  parts->running = vma_thread_start (&parts->thread, search, parts) == 0;
  if (!parts->running) {
    vma_log ("%s: cannot start a thread to look for partitions", vma_archive_path (parts->archive));
    atomic_store (&parts->finished, TRUE);
  }
}

void
vma_parts_wait (VmaParts *parts, gint64 timeout_ms)
{
  struct timespec until;
  VMA_LOCK (&parts->lock);

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_sec += timeout_ms / 1000;
  until.tv_nsec += timeout_ms % 1000 * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  while (!atomic_load (&parts->finished))
    if (timeout_ms < 0)
      pthread_cond_wait (&parts->ended, &parts->lock);
    else if (pthread_cond_timedwait (&parts->ended, &parts->lock, &until) != 0)
      return;
}

gboolean
vma_parts_is_finished (VmaParts *parts)
{
  return atomic_load (&parts->finished);
}

void
vma_parts_free (VmaParts *parts)
{
  g_cancellable_cancel (parts->cancel);
  if (parts->running)
    pthread_join (parts->thread, NULL);
  g_object_unref (parts->cancel);
  pthread_cond_destroy (&parts->ended);
  pthread_mutex_destroy (&parts->lock);
  g_free (parts);
}
