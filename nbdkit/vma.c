/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plugin "vma" of nbdkit: the disks of an archive as NBD exports.
 *
 * Uses nothing but the interface of libvma, and that of nbdkit.  Callbacks run in any number of
 * threads; all that is written after config is `handle`, by after_fork and cleanup, which run
 * alone.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "include/vma.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *archive;
static char *disk_name; /* NULL: all disks are exports */
static char *cache_dir;
static VmaOpenOptions options = VMA_OPEN_OPTIONS_INIT;
static VmaHandle *handle;
static pthread_t watcher;
static int watching;
static atomic_int unloading;

static void
on_note (void *data __attribute__ ((unused)), const char *message)
{
  nbdkit_debug ("%s", message);
}

/* --- configuration ---------------------------------------------------------------------------- */

static int
set_flag (const char *value, unsigned flag)
{
  int yes = nbdkit_parse_bool (value);

  if (yes == 1)
    options.flags |= flag;
  else if (yes == 0)
    options.flags &= ~flag;
  return yes < 0 ? -1 : 0;
}

static int
set_size (const char *value, uint64_t *size)
{
  int64_t parsed = nbdkit_parse_size (value);

  if (parsed < 0)
    return -1;
  *size = (uint64_t) parsed;
  return 0;
}

static int
set_cache_dir (const char *value)
{
  free (cache_dir);
  cache_dir = NULL;
  if (strcmp (value, "none") == 0) {
    options.flags |= VMA_OPEN_NO_CACHE;
    return 0;
  }
  options.flags &= ~VMA_OPEN_NO_CACHE;
  cache_dir = nbdkit_absolute_path (value); /* nbdkit changes its directory */
  options.cache_dir = cache_dir;
  return cache_dir != NULL ? 0 : -1;
}

static int
set_string (const char *value, char **string)
{
  free (*string);
  *string = strdup (value);
  if (*string == NULL)
    nbdkit_error ("%s: %m", value);
  return *string != NULL ? 0 : -1;
}

static int
vma_config (const char *key, const char *value)
{
  if (strcmp (key, "archive") == 0) {
    free (archive);
    archive = nbdkit_realpath (value);
    return archive != NULL ? 0 : -1;
  }
  if (strcmp (key, "disk") == 0)
    return set_string (value, &disk_name);
  if (strcmp (key, "salvage") == 0)
    return set_flag (value, VMA_OPEN_SALVAGE);
  if (strcmp (key, "follow") == 0)
    return set_flag (value, VMA_OPEN_FOLLOW);
  if (strcmp (key, "index-cache") == 0)
    return set_cache_dir (value);
  if (strcmp (key, "cache-size") == 0)
    return set_size (value, &options.cache_size);
  if (strcmp (key, "memory-limit") == 0)
    return set_size (value, &options.memory_limit);
  nbdkit_error ("unknown parameter '%s' (nbdkit vma --help lists them)", key);
  return -1;
}

static int
vma_config_complete (void)
{
  if (archive != NULL)
    return 0;
  nbdkit_error ("which archive? (nbdkit vma ARCHIVE [disk=NAME])");
  return -1;
}

#define CONFIG_HELP                                                                                \
  "[archive=]ARCHIVE    (required) A VMA archive; it may be compressed.\n"                         \
  "disk=NAME            Only this disk, which is the default export then.\n"                       \
  "salvage=true         Read what is sound of a damaged archive.\n"                                \
  "follow=true          The archive is still being written: wait for the rest.\n"                  \
  "index-cache=DIR|none Where the index is kept.\n"                                                \
  "cache-size=SIZE      Compressed archives: decoded data to keep (default 256M).\n"               \
  "memory-limit=SIZE    Compressed archives: what one decoder may take (default 1G)."

static void
vma_dump_plugin (void)
{
  printf ("libvma_version=%s\n", vma_version ());
}

/* --- its life --------------------------------------------------------------------------------- */

static int
open_archive (VmaHandle **opened, unsigned flags)
{
  VmaOpenOptions all = options;

  all.flags |= flags;
  all.note = on_note;
  if (vma_open (opened, archive, &all) == VMA_OK)
    return 0;
  nbdkit_error ("%s", vma_message ());
  return -1;
}

/* What is wrong is told while there is a terminal; but threads do not survive the fork. */
static int
vma_get_ready (void)
{
  VmaHandle *opened;

  if (open_archive (&opened, VMA_OPEN_HEADER) != 0)
    return -1;
  int status = disk_name == NULL || vma_find_disk (opened, disk_name) != NULL ? 0 : -1;
  if (status != 0)
    nbdkit_error ("%s", vma_message ());
  vma_close (opened);
  return status;
}

/* Reads of a growing archive may wait for ever; nbdkit tells of its end only those who sleep. */
static void *
watch (void *data __attribute__ ((unused)))
{
  while (!atomic_load (&unloading))
    if (nbdkit_nanosleep (0, 100000000) != 0) {
      vma_cancel (handle);
      break;
    }
  return NULL;
}

static int
vma_after_fork (void)
{
  if (open_archive (&handle, 0) != 0)
    return -1;
  if ((options.flags & VMA_OPEN_FOLLOW) != 0)
    watching = pthread_create (&watcher, NULL, watch, NULL) == 0;
  return 0;
}

static void
vma_unload (void)
{
  atomic_store (&unloading, 1);
  if (watching)
    pthread_join (watcher, NULL);
  vma_close (handle);
  free (archive);
  free (disk_name);
  free (cache_dir);
}

/* --- exports ---------------------------------------------------------------------------------- */

/* A disk's name as an export: that of the archive, unless that needs escaping or is not unique. */
static const char *
export_name (VmaDisk *disk)
{
  const char *name = vma_disk_name (disk), *file = vma_disk_file_name (disk);
  char plain[300];

  if (vma_disk_is_vmstate (disk))
    return name;
  int n = snprintf (plain, sizeof plain, "disk-%s.raw", name);
  return n > 0 && (size_t) n < sizeof plain && strcmp (plain, file) == 0 ? name : file;
}

static VmaDisk *
the_default (void)
{
  if (disk_name != NULL)
    return vma_find_disk (handle, disk_name);
  return vma_n_disks (handle) == 1 ? vma_disk (handle, 0) : NULL;
}

static int
vma_list_exports (int readonly __attribute__ ((unused)), int is_tls __attribute__ ((unused)),
                  struct nbdkit_exports *exports)
{
  if (disk_name != NULL)
    return nbdkit_add_export (exports, export_name (the_default ()), NULL);
  for (size_t i = 0; i < vma_n_disks (handle); i++)
    if (nbdkit_add_export (exports, export_name (vma_disk (handle, i)), NULL) != 0)
      return -1;
  return 0;
}

static const char *
vma_default_export (int readonly __attribute__ ((unused)), int is_tls __attribute__ ((unused)))
{
  VmaDisk *disk = the_default ();

  return disk != NULL ? export_name (disk) : ""; /* which is refused, with a message, when opened */
}

static void *
vma_open_disk (int readonly __attribute__ ((unused)))
{
  const char *name = nbdkit_export_name ();
  VmaDisk *disk = name == NULL || *name == '\0' ? the_default () : vma_find_disk (handle, name);

  if (disk == NULL && (name == NULL || *name == '\0'))
    nbdkit_error ("%s: has %zu disks: name one as the export, or with disk=NAME", archive,
                  vma_n_disks (handle));
  else if (disk == NULL)
    nbdkit_error ("%s", vma_message ());
  else if (disk_name != NULL && disk != the_default ()) {
    nbdkit_error ("%s: only disk '%s' is exported", archive, disk_name);
    disk = NULL;
  }
  return disk;
}

static const char *
vma_export_description (void *disk)
{
  return nbdkit_printf_intern ("%s of %s", vma_disk_file_name (disk), archive);
}

/* --- requests --------------------------------------------------------------------------------- */

static int
fail (VmaResult result)
{
  nbdkit_error ("%s", vma_message ());
  nbdkit_set_error (result == VMA_E_CANCELLED ? ESHUTDOWN : EIO);
  return -1;
}

static int64_t
vma_get_size (void *disk)
{
  uint64_t size;
  VmaResult result = vma_disk_size (disk, &size);

  return result == VMA_OK ? (int64_t) size : fail (result);
}

static int
always (void *disk __attribute__ ((unused)))
{
  return 1;
}

static int
vma_can_cache (void *disk __attribute__ ((unused)))
{
  return NBDKIT_CACHE_EMULATE; /* what is read is in a cache afterwards: ours, or the kernel's */
}

static int
vma_block_size (void *disk __attribute__ ((unused)), uint32_t *minimum, uint32_t *preferred,
                uint32_t *maximum)
{
  *minimum = 1;
  *preferred = VMA_CLUSTER;
  *maximum = 0xffffffff;
  return 0;
}

static int
vma_pread (void *disk, void *buffer, uint32_t count, uint64_t offset,
           uint32_t flags __attribute__ ((unused)))
{
  VmaResult result;
  ssize_t n = vma_disk_read (disk, buffer, count, offset, &result);

  if (n == (ssize_t) count)
    return 0;
  if (n < 0)
    return fail (result);
  nbdkit_error ("%s: the disk ends inside a read at %" PRIu64, archive, offset);
  return -1;
}

/* What cannot be read is data, so that whoever copies meets the error. */
static int
vma_extents (void *disk, uint32_t count, uint64_t offset, uint32_t flags,
             struct nbdkit_extents *extents)
{
  uint64_t at = offset, end = offset + count;

  while (at < end) {
    VmaRange range;
    VmaResult result = vma_disk_range (disk, at, &range);
    if (result != VMA_OK)
      return fail (result);
    uint32_t type = range.kind == VMA_RANGE_ZERO ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    if (nbdkit_add_extent (extents, at, range.end - at, type) != 0)
      return -1;
    at = range.end;
    if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
      break;
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "vma",
  .longname = "nbdkit VMA plugin",
  .version = VMAFS_VERSION,
  .description = "the disks of a VMA archive, the backup of a virtual machine",
  .magic_config_key = "archive",
  .config = vma_config,
  .config_complete = vma_config_complete,
  .config_help = CONFIG_HELP,
  .dump_plugin = vma_dump_plugin,
  .get_ready = vma_get_ready,
  .after_fork = vma_after_fork,
  .unload = vma_unload,
  .list_exports = vma_list_exports,
  .default_export = vma_default_export,
  .open = vma_open_disk,
  .export_description = vma_export_description,
  .get_size = vma_get_size,
  .block_size = vma_block_size,
  .can_multi_conn = always,
  .can_extents = always,
  .can_cache = vma_can_cache,
  .pread = vma_pread,
  .extents = vma_extents,
};

NBDKIT_REGISTER_PLUGIN (plugin)
