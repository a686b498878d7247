/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/pieces.h"

#include "mount-helper/mapper.h"
#include "mount-helper/message.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <string.h>
#include <unistd.h>

int
pieces_attach_range (const MountArguments *arguments, const LoopTag *tag, int mount_fd,
                     const char *image, guint64 offset, guint64 length, char **device,
                     GError **error)
{
  int loop = -1, mode = arguments->writable ? O_RDWR : O_RDONLY;
  int file = openat (mount_fd, image, mode | O_CLOEXEC | O_NOFOLLOW);

  if (file >= 0) {
    loop = loop_attach (file, offset, length, arguments->writable, tag, device, error);
    close (file);
  } else
    helper_set_errno (error, MNT_EX_FAIL, errno, "%s: cannot open %s", arguments->archive, image);
  return loop;
}

/* A loop device over all the pieces that stand on one physical volume. */
typedef struct {
  const char *pv_uuid, *file;
  guint64 start, end;
  int fd;
  char *device;
} Physical;

static void
physical_clear (Physical *physical)
{
  if (physical->fd >= 0)
    close (physical->fd);
  g_free (physical->device);
}

static Physical *
find_physical (GArray *physicals, const FoundPiece *piece)
{
  for (guint i = 0; i < physicals->len; i++) {
    Physical *physical = &g_array_index (physicals, Physical, i);
    if (strcmp (physical->pv_uuid, piece->pv_uuid) == 0)
      return physical;
  }
  return NULL;
}

static GArray *
list_physicals (const Found *found)
{
  GArray *physicals = g_array_new (FALSE, FALSE, sizeof (Physical));

  g_array_set_clear_func (physicals, (GDestroyNotify) physical_clear);
  for (guint i = 0; i < found->pieces->len; i++) {
    const FoundPiece *piece = found_piece (found, i);
    Physical *physical = find_physical (physicals, piece);

    if (physical != NULL) {
      physical->start = MIN (physical->start, piece->offset);
      physical->end = MAX (physical->end, piece->offset + piece->length);
    } else {
      Physical first = { .pv_uuid = piece->pv_uuid,
                         .file = piece->file,
                         .start = piece->offset,
                         .end = piece->offset + piece->length,
                         .fd = -1 };
      g_array_append_val (physicals, first);
    }
  }
  return physicals;
}

/* The type was not known before: nobody could look into it. */
static void
recognise (const MountArguments *arguments, const char *device, Found *found)
{
  g_autofree char *type = NULL, *usage = NULL;
  blkid_probe probe = blkid_new_probe_from_filename (device);
  const char *value;

  if (probe == NULL)
    return;
  blkid_probe_enable_superblocks (probe, 1);
  blkid_probe_set_superblocks_flags (probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  if (blkid_do_safeprobe (probe) == 0) {
    if (blkid_probe_lookup_value (probe, "TYPE", &value, NULL) == 0)
      type = g_strdup (value);
    if (blkid_probe_lookup_value (probe, "USAGE", &value, NULL) == 0)
      usage = g_strdup (value);
  }
  blkid_free_probe (probe);
  if (found->volume.fs_type == NULL)
    found_set_type (found, arguments, type, usage);
}

int
pieces_attach (const MountArguments *arguments, Found *found, int mount_fd, char **device,
               GError **error)
{
  g_autoptr (GArray) physicals = list_physicals (found);
  g_autoptr (GArray) table = g_array_new (FALSE, FALSE, sizeof (MapperPiece));

  for (guint i = 0; i < physicals->len; i++) {
    Physical *p = &g_array_index (physicals, Physical, i);
    p->fd = pieces_attach_range (arguments, &found->tag, mount_fd, p->file, p->start,
                                 p->end - p->start, &p->device, error);
    if (p->fd < 0)
      return -1;
  }
  for (guint i = 0; i < found->pieces->len; i++) {
    const FoundPiece *piece = found_piece (found, i);
    const Physical *p = find_physical (physicals, piece);
    g_assert (p != NULL); /* they were made from these pieces */
    MapperPiece line = { p->device, piece->offset - p->start, piece->length };
    g_array_append_val (table, line);
  }
  int fd = mapper_create ((const MapperPiece *) (gpointer) table->data, table->len,
                          arguments->writable, &found->tag, device, error);
  if (fd < 0)
    return -1;
  recognise (arguments, *device, found);
  if (found_check_type (found, arguments, error))
    return fd;
  close (fd);
  return -1;
}
