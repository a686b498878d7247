/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/open.h"

#include "index/saved.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/progress.h"
#include "tool/size.h"
#include "vma/error.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static guint64 memory_limit; /* 0: the default */

gboolean
tool_set_memory_limit (const char *option, const char *value, gpointer data G_GNUC_UNUSED,
                       GError **error)
{
  if (tool_parse_size (value, &memory_limit) && memory_limit >= 1024 * 1024)
    return TRUE;
  g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
               "%s: '%s' is not a size of 1M or more", option, value);
  return FALSE;
}

char *
tool_cache_dir (const char *option)
{
  if (option == NULL)
    return vma_saved_index_default_dir ();
  return strcmp (option, "none") == 0 ? NULL : g_strdup (option);
}

VmaArchive *
tool_open (const char *path, const char *cache_dir, gboolean salvage, GError **error)
{
  return tool_open_over (path, NULL, cache_dir, salvage, error);
}

VmaArchive *
tool_open_over (const char *path, const char *base, const char *cache_dir, gboolean salvage,
                GError **error)
{
  const VmaArchiveOptions options = {
    .salvage = salvage, .base = base, .cache_dir = cache_dir, .checksums_dir = cache_dir
  };

  return tool_open_with (path, &options, error);
}

VmaArchive *
tool_open_with (const char *path, const VmaArchiveOptions *options, GError **error)
{
  VmaArchiveOptions own = *options;

  own.memory_limit = memory_limit;
  own.report = tool_report;
  return vma_archive_open (path, &own, error);
}

/* --- index ------------------------------------------------------------------------------------- */

static gboolean
scan (VmaArchive *archive, GError **error)
{
  g_autoptr (VmaScanner) scanner = vma_archive_scanner_new (archive);
  VmaIndex *index = vma_archive_index (archive);
  guint64 size = vma_source_size (vma_archive_source (archive));
  const VmaExtent *extent;
  guint64 offset;
  int more;

  vma_scanner_headers_only (scanner);
  tool_progress_start ("indexing", size != VMA_SIZE_UNKNOWN ? size : 0);
  while ((more = vma_scanner_next (scanner, &extent, &offset, tool_cancellable (), error)) > 0)
    tool_progress_set (offset);
  tool_progress_end ();
  return more == 0 && vma_index_complete (index, !vma_archive_is_salvaging (archive), error);
}

static gboolean
save (VmaArchive *archive, const char *path, const VmaIndexKey *key, GError **error)
{
  if (vma_saved_index_store (path, key, vma_archive_header (archive), vma_archive_index (archive),
                             tool_cancellable (), error))
    return TRUE;
  g_prefix_error (error, "%s: ", vma_archive_path (archive));
  return FALSE;
}

/* For those who can do without. */
static void
try_to_save (VmaArchive *archive, const char *path, const VmaIndexKey *key)
{
  g_autoptr (GError) error = NULL;

  if (!save (archive, path, key, &error)
      && !g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED))
    tool_error ("note: %s (--index-cache=DIR puts it elsewhere)", error->message);
}

static gboolean
get_key (VmaArchive *archive, VmaIndexKey *key, GError **error)
{
  memcpy (key->uuid, vma_archive_header (archive)->uuid, VMA_UUID_SIZE);
  return vma_source_identity (vma_archive_source (archive), &key->source, error);
}

void
tool_save_index (VmaArchive *archive, const char *dir)
{
  VmaIndexKey key;

  if (dir == NULL || !vma_index_may_be_saved (vma_archive_index (archive))
      || !get_key (archive, &key, NULL))
    return;
  g_autofree char *path = vma_saved_index_path (dir, &key);
  try_to_save (archive, path, &key);
}

static gboolean
index_archive (VmaArchive *archive, gboolean must_save, GError **error)
{
  const char *path = vma_archive_index_path (archive);
  VmaIndexKey key;

  if (vma_archive_base (archive) != NULL
      && !index_archive (vma_archive_base (archive), must_save, error))
    return FALSE;
  if (vma_index_state (vma_archive_index (archive)) != VMA_INDEX_BUILDING)
    return vma_archive_wait_index (archive, -1, tool_cancellable (), error);
  if (!scan (archive, error)) {
    vma_archive_prefix_error (archive, error);
    return FALSE;
  }
  if (path == NULL)
    return TRUE;
  if (must_save) /* never with salvage */
    return get_key (archive, &key, error) && save (archive, path, &key, error);
  if (vma_index_may_be_saved (vma_archive_index (archive)) && get_key (archive, &key, NULL))
    try_to_save (archive, path, &key);
  return TRUE;
}

gboolean
tool_index_archive (VmaArchive *archive, GError **error)
{
  return index_archive (archive, FALSE, error);
}

gboolean
tool_build_index (VmaArchive *archive, GError **error)
{
  return index_archive (archive, TRUE, error);
}

/* --- listing ----------------------------------------------------------------------------------- */

char *
tool_archive_ctime (VmaArchive *archive)
{
  time_t when = (time_t) vma_archive_header (archive)->ctime;
  struct tm tm;
  char text[64];

  if ((gint64) when == vma_archive_header (archive)->ctime && localtime_r (&when, &tm) != NULL
      && strftime (text, sizeof text, "%a %b %e %H:%M:%S %Y", &tm) > 0)
    return g_strdup (text);
  return g_strdup_printf ("@%" G_GINT64_FORMAT, vma_archive_header (archive)->ctime);
}

void
tool_print_listing (VmaArchive *archive)
{
  const VmaHeader *header = vma_archive_header (archive);

  for (guint i = 0; i < header->configs->len; i++) {
    const VmaConfig *config = g_ptr_array_index (header->configs, i);
    g_autofree char *name = vma_name_escape (config->name);
    printf ("CFG: size: %" G_GSIZE_FORMAT " name: %s\n", g_bytes_get_size (config->data), name);
  }
  for (guint i = 0; i < header->devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (header->devices, i);
    g_autofree char *name = vma_name_escape (device->name);
    if (device->is_vmstate)
      printf ("VMSTATE: dev_id=%u memory: %" G_GUINT64_FORMAT "\n", device->id, device->size);
    else
      printf ("DEV: dev_id=%u size: %" G_GUINT64_FORMAT " devname: %s\n", device->id, device->size,
              name);
  }
  g_autofree char *ctime_text = tool_archive_ctime (archive);
  printf ("CTIME: %s\n", ctime_text);
  fflush (stdout);
}

char *
tool_uuid_text (const guint8 uuid[VMA_UUID_SIZE])
{
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < VMA_UUID_SIZE; i++)
    g_string_append_printf (text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                            uuid[i]);
  return g_string_free (text, FALSE);
}
