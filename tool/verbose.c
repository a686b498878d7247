/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/verbose.h"

#include "index/lock.h"
#include "tool/size.h"

#include <stdio.h>

void
tool_verbose_start (ToolVerbose *verbose, const VmaHeader *header, gboolean enabled)
{
  *verbose = (ToolVerbose){ .enabled = enabled,
                            .started = g_get_monotonic_time (),
                            .lock = PTHREAD_MUTEX_INITIALIZER };
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    guint64 size = MIN (device->size, VMA_MAX_DEVICE_SIZE);
    verbose->total += vma_clusters_for_size (size) * VMA_CLUSTER_SIZE;
  }
}

void
tool_verbose_count (ToolVerbose *verbose, guint64 read, guint64 sparse, guint64 zero_blocks)
{
  if (!verbose->enabled)
    return;
  VMA_LOCK (&verbose->lock);
  verbose->read += read;
  verbose->sparse += sparse;
  verbose->zero_blocks += zero_blocks;

  guint percent = (guint) MIN (100, tool_percent (verbose->read, verbose->total));
  if (percent == verbose->percent)
    return;
  verbose->percent = percent;
  printf ("progress %u%% (read %" G_GUINT64_FORMAT " bytes, duration %" G_GINT64_FORMAT " sec)\n",
          percent, verbose->read, (g_get_monotonic_time () - verbose->started) / G_USEC_PER_SEC);
  fflush (stdout);
}

void
tool_verbose_extent (ToolVerbose *verbose, const VmaExtent *extent)
{
  guint64 sparse = 0, stored = 0, partial = 0;

  if (!verbose->enabled)
    return;
  for (guint i = 0; i < extent->n_slots; i++) {
    guint16 mask = extent->slots[i].mask;
    sparse += mask == 0;
    stored += mask != 0;
    partial += mask != 0 ? VMA_BLOCKS_PER_CLUSTER - vma_mask_blocks (mask) : 0;
  }
  tool_verbose_count (verbose, (sparse + stored) * VMA_CLUSTER_SIZE, sparse * VMA_CLUSTER_SIZE,
                      partial * VMA_BLOCK_SIZE);
}

void
tool_verbose_summary (const ToolVerbose *verbose)
{
  if (!verbose->enabled)
    return;
  if (verbose->read == 0) {
    printf ("the archive holds no disk data\n");
    return;
  }
  printf ("total bytes read %" G_GUINT64_FORMAT ", sparse bytes %" G_GUINT64_FORMAT " (%.3g%%)\n",
          verbose->read, verbose->sparse, tool_percent (verbose->sparse, verbose->read));
  if (verbose->read > verbose->sparse)
    printf ("space reduction due to 4K zero blocks %.3g%%\n",
            tool_percent (verbose->zero_blocks, verbose->read - verbose->sparse));
}
