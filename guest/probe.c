/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/guest.h"

#include "guest/layout.h"
#include "guest/lvm.h"
#include "guest/sketch.h"
#include "vma/error.h"

#include <blkid/blkid.h>
#include <string.h>

/* What libblkid looks at, besides what vma_layout_elsewhere() knows: both ends of a volume. */
#define HEAD      (1024u * 1024 + 65536)
#define TAIL      (9u * 65536)
#define ELSEWHERE 65536u
#define NESTED    32768u /* a table inside a partition */
#define MAX_LINKS 256    /* logical partitions that are followed */

static void
volume_free (VmaGuestVolume *v)
{
  char *const strings[] = { v->name, v->type, v->part_label, v->part_uuid, v->fs_type, v->fs_usage,
                            v->fs_label, v->fs_uuid, v->fs_version, v->vg, v->problem };

  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_clear_pointer (&v->pieces, g_array_unref);
  g_free (v);
}

static void
disk_free (VmaGuestDisk *disk)
{
  g_ptr_array_unref (disk->volumes);
  g_free (disk->table);
  g_free (disk->table_uuid);
  g_free (disk->problem);
  g_free (disk);
}

void
vma_guest_free (VmaGuest *guest)
{
  g_ptr_array_unref (guest->disks);
  g_free (guest);
}

static GPtrArray *
new_volumes (void)
{
  return g_ptr_array_new_with_free_func ((GDestroyNotify) volume_free);
}

static VmaGuestVolume *
volume_new (VmaImage *image, VmaGuestKind kind, char *name, guint64 offset, guint64 length)
{
  VmaGuestVolume *v = g_new0 (VmaGuestVolume, 1);

  *v = (VmaGuestVolume){ .image = image, .kind = kind, .name = name,
                         .offset = offset, .length = length, .is_window = TRUE };
  return v;
}

static void
set_problem (VmaGuestVolume *v, const char *problem)
{
  if (v->problem == NULL && problem != NULL)
    v->problem = g_strdup (problem);
}

/* Only what cancels a probe is an error of it; all else is a problem of the volume. */
static gboolean
absorb (VmaGuestVolume *v, GError **local, GError **error)
{
  if (g_error_matches (*local, VMA_ERROR, VMA_ERROR_CANCELLED)) {
    g_propagate_error (error, g_steal_pointer (local));
    return FALSE;
  }
  set_problem (v, (*local)->message);
  return TRUE;
}

/* --- libblkid ---------------------------------------------------------------------------------- */

G_DEFINE_AUTO_CLEANUP_FREE_FUNC (blkid_probe, blkid_free_probe, NULL)

static blkid_probe
new_probe (VmaSketch *sketch)
{
  blkid_probe probe = blkid_new_probe ();

  if (probe != NULL && blkid_probe_set_device (probe, vma_sketch_fd (sketch), 0, 0) == 0)
    return probe;
  if (probe != NULL)
    blkid_free_probe (probe);
  return NULL;
}

/* Text from a disk: only what is UTF-8 and has no control characters can be shown and asked for. */
static char *
dup_text (const char *text)
{
  if (text == NULL || *text == '\0')
    return NULL;
  char *copy = g_utf8_make_valid (text, -1);
  for (char *p = copy; *p != '\0'; p++)
    if (g_ascii_iscntrl (*p))
      *p = '?';
  return copy;
}

static char *
dup_value (blkid_probe probe, const char *name)
{
  const char *value = NULL;

  return blkid_probe_lookup_value (probe, name, &value, NULL) == 0 ? dup_text (value) : NULL;
}

/* Fills the sketch of a volume with all that tells what it is. */
static gboolean
fill_volume (VmaSketch *sketch, guint64 length, GCancellable *cancellable, GError **error)
{
  guint8 sector[VMA_LAYOUT_SECTOR];
  guint64 elsewhere;

  if (!vma_sketch_fill (sketch, 0, HEAD, cancellable, error)
      || (length > HEAD
          && !vma_sketch_fill (sketch, length > HEAD + TAIL ? length - TAIL : HEAD, TAIL,
                               cancellable, error)))
    return FALSE;
  vma_sketch_read (sketch, sector, sizeof sector, 0);
  return !vma_layout_elsewhere (sector, &elsewhere)
         || vma_sketch_fill (sketch, elsewhere, ELSEWHERE, cancellable, error);
}

static void
recognize (VmaGuestVolume *v, VmaSketch *sketch)
{
  g_auto (blkid_probe) probe = new_probe (sketch);

  if (probe == NULL) {
    set_problem (v, "libblkid cannot look at it");
    return;
  }
  blkid_probe_enable_superblocks (probe, 1);
  blkid_probe_set_superblocks_flags (probe, BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID
                                                | BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE
                                                | BLKID_SUBLKS_VERSION);
  int result = blkid_do_safeprobe (probe);
  if (result == -2)
    set_problem (v, "it looks like several file systems at once");
  if (result != 0)
    return;
  v->fs_type = dup_value (probe, "TYPE");
  v->fs_usage = dup_value (probe, "USAGE");
  v->fs_label = dup_value (probe, "LABEL");
  v->fs_uuid = dup_value (probe, "UUID");
  v->fs_version = dup_value (probe, "VERSION");
}

/* What is in a volume.  FALSE only when cancelled. */
static gboolean
probe_volume (VmaGuestVolume *v, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autoptr (VmaSketch) sketch = vma_sketch_new (v->image, v->offset, v->length, &local);

  if (sketch == NULL || !fill_volume (sketch, v->length, cancellable, &local))
    return absorb (v, &local, error);
  recognize (v, sketch);
  /* What was recognized was read, and is right; that nothing was is not certain with parts missing. */
  if (v->fs_type == NULL)
    set_problem (v, vma_sketch_problem (sketch));
  return TRUE;
}

/* --- LVM --------------------------------------------------------------------------------------- */

static VmaLvmGroup *
read_group (const VmaGuestVolume *pv, GCancellable *cancellable, GError **error)
{
  guint8 head[4 * VMA_LAYOUT_SECTOR];
  guint64 offset, length;
  gssize n = vma_image_pread (pv->image, head, MIN (sizeof head, pv->length), pv->offset,
                              cancellable, error);

  if (n < 0)
    return NULL;
  if (!vma_lvm_find_area (head, (gsize) n, &offset, &length) || offset >= pv->length) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "LVM: no metadata on this physical volume");
    return NULL;
  }
  length = MIN (length, pv->length - offset);
  if (length > VMA_LVM_AREA_MAX) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED, "LVM: the metadata area is too large");
    return NULL;
  }
  g_autofree guint8 *area = g_malloc (length);
  n = vma_image_pread (pv->image, area, length, pv->offset + offset, cancellable, error);
  if (n < 0)
    return NULL;
  g_autoptr (GBytes) text = vma_lvm_area_text (area, (gsize) n, error);
  if (text == NULL)
    return NULL;
  return vma_lvm_parse (g_bytes_get_data (text, NULL), g_bytes_get_size (text), pv->fs_uuid, error);
}

/* The pieces, so far without the disks they are on. */
static GArray *
unresolved_pieces (const VmaLvmVolume *lv)
{
  if (lv->pieces == NULL || lv->pieces->len == 0)
    return NULL;
  GArray *pieces = g_array_new (FALSE, FALSE, sizeof (VmaGuestPiece));
  for (guint i = 0; i < lv->pieces->len; i++) {
    const VmaLvmPiece *from = &g_array_index (lv->pieces, VmaLvmPiece, i);
    VmaGuestPiece piece = { .offset = from->offset, .length = from->length };

    g_strlcpy (piece.pv_uuid, from->pv_uuid, sizeof piece.pv_uuid);
    g_array_append_val (pieces, piece);
  }
  return pieces;
}

static const VmaGuestVolume *
find_physical (const VmaGuest *guest, const char *uuid)
{
  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
    for (guint i = 0; i < disk->volumes->len; i++) {
      const VmaGuestVolume *v = g_ptr_array_index (disk->volumes, i);
      if (v->is_window && g_strcmp0 (v->fs_type, "LVM2_member") == 0
          && g_strcmp0 (v->fs_uuid, uuid) == 0)
        return v;
    }
  }
  return NULL;
}

static gboolean
resolve_piece (const VmaGuest *guest, VmaGuestPiece *piece)
{
  const VmaGuestVolume *pv = find_physical (guest, piece->pv_uuid);

  if (pv == NULL || piece->offset > pv->length || piece->length > pv->length - piece->offset)
    return FALSE;
  piece->image = pv->image;
  piece->offset += pv->offset; /* both lie inside the disk */
  return TRUE;
}

/* Now that all physical volumes are known.  Those of which one is missing have no pieces. */
static void
resolve_pieces (const VmaGuest *guest)
{
  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
    for (guint i = 0; i < disk->volumes->len; i++) {
      VmaGuestVolume *v = g_ptr_array_index (disk->volumes, i);
      gboolean ok = TRUE;

      for (guint p = 0; v->pieces != NULL && p < v->pieces->len; p++)
        ok &= resolve_piece (guest, &g_array_index (v->pieces, VmaGuestPiece, p));
      if (!ok)
        g_clear_pointer (&v->pieces, g_array_unref);
    }
  }
}

static VmaGuestVolume *
logical_volume (const VmaGuestVolume *pv, const char *vg, const VmaLvmVolume *lv)
{
  g_autofree char *group = vma_name_escape (vg), *name = vma_name_escape (lv->name);
  VmaGuestVolume *v
      = volume_new (pv->image, VMA_GUEST_LV, g_strdup_printf ("%s/%s", group, name),
                    pv->offset + lv->offset, lv->length);

  v->vg = g_strdup (vg);
  if (!lv->is_window) {
    v->is_window = FALSE;
    v->problem = g_strdup_printf ("the logical volume is %s: only LVM can put it together",
                                  lv->layout);
    v->pieces = unresolved_pieces (lv);
  } else if (lv->offset > pv->length || lv->length > pv->length - lv->offset) {
    v->is_window = FALSE;
    v->problem = g_strdup ("it reaches beyond its physical volume");
  }
  return v;
}

/* Adds the logical volumes that begin on a physical one. */
static gboolean
add_logical_volumes (VmaGuestVolume *pv, GPtrArray *found, GCancellable *cancellable,
                     GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autoptr (VmaLvmGroup) group = read_group (pv, cancellable, &local);

  if (group == NULL)
    return absorb (pv, &local, error);
  pv->vg = g_strdup (group->vg);
  for (guint i = 0; i < group->volumes->len; i++) {
    VmaGuestVolume *v = logical_volume (pv, group->vg, g_ptr_array_index (group->volumes, i));

    g_ptr_array_add (found, v);
    if (v->is_window && !probe_volume (v, cancellable, error))
      return FALSE;
  }
  return TRUE;
}

/* --- partition tables -------------------------------------------------------------------------- */

/* The boot records that a master boot record refers to, for this size of sectors. */
static gboolean
fill_links (VmaSketch *sketch, guint sector_size, GCancellable *cancellable, GError **error)
{
  guint8 record[VMA_LAYOUT_SECTOR];
  guint32 starts[4], first, next;

  vma_sketch_read (sketch, record, sizeof record, 0);
  for (guint i = 0, n = vma_layout_primaries (record, starts); i < n; i++)
    if (!vma_sketch_fill (sketch, (guint64) starts[i] * sector_size, NESTED, cancellable, error))
      return FALSE;
  if (!vma_layout_extended (record, &first))
    return TRUE;
  guint64 at = (guint64) first * sector_size;
  for (guint i = 0; i < MAX_LINKS; i++) {
    if (!vma_sketch_fill (sketch, at, VMA_LAYOUT_SECTOR, cancellable, error))
      return FALSE;
    vma_sketch_read (sketch, record, sizeof record, at);
    if (!vma_layout_extended (record, &next))
      return TRUE;
    at = ((guint64) first + next) * sector_size;
  }
  return TRUE;
}

static VmaGuestVolume *
partition (VmaImage *image, blkid_partition part, guint64 disk_size)
{
  guint64 start = (guint64) blkid_partition_get_start (part);
  guint64 size = (guint64) blkid_partition_get_size (part);
  int number = blkid_partition_get_partno (part);
  VmaGuestVolume *v = volume_new (image, VMA_GUEST_PARTITION, g_strdup_printf ("p%d", number),
                                  start * 512, size * 512);
  const char *type = blkid_partition_get_type_string (part);

  v->number = (guint) number;
  v->type = type != NULL ? dup_text (type)
                         : g_strdup_printf ("0x%02x", (guint) blkid_partition_get_type (part));
  v->part_label = dup_text (blkid_partition_get_name (part));
  v->part_uuid = dup_text (blkid_partition_get_uuid (part));
  if (blkid_partition_is_extended (part))
    v->is_window = FALSE;
  else if (start > disk_size / 512 || size > disk_size / 512 - start || size == 0) {
    v->is_window = FALSE;
    v->problem = g_strdup ("the partition reaches beyond the end of the disk");
  }
  return v;
}

static gint
by_number (gconstpointer a, gconstpointer b)
{
  const VmaGuestVolume *const *v = a, *const *w = b;

  return (*v)->number < (*w)->number ? -1 : (*v)->number > (*w)->number;
}

/* The table as it is for sectors of this size; NULL where there is none. */
static GPtrArray *
read_table (VmaGuestDisk *disk, VmaSketch *sketch, guint sector_size, guint64 disk_size)
{
  g_auto (blkid_probe) probe = new_probe (sketch);

  if (probe == NULL)
    return NULL;
  blkid_probe_set_sectorsize (probe, sector_size);
  blkid_probe_enable_superblocks (probe, 0);
  blkid_probe_enable_partitions (probe, 1);
  blkid_probe_set_partitions_flags (probe, BLKID_PARTS_ENTRY_DETAILS);
  blkid_partlist list = blkid_probe_get_partitions (probe);
  blkid_parttable table = list != NULL ? blkid_partlist_get_table (list) : NULL;
  if (table == NULL)
    return NULL;

  g_autoptr (GPtrArray) volumes = new_volumes ();
  for (int i = 0; i < blkid_partlist_numof_partitions (list); i++)
    g_ptr_array_add (volumes,
                     partition (disk->image, blkid_partlist_get_partition (list, i), disk_size));
  g_ptr_array_sort (volumes, by_number);
  g_free (disk->table);
  g_free (disk->table_uuid);
  disk->table = dup_text (blkid_parttable_get_type (table));
  disk->table_uuid = dup_text (blkid_parttable_get_id (table));
  disk->sector_size = sector_size;
  return g_steal_pointer (&volumes);
}

/* Takes these volumes as the disk's, and looks into each.  *known: whether anything was recognized. */
static gboolean
take_volumes (VmaGuestDisk *disk, GPtrArray *volumes, gboolean *known, GCancellable *cancellable,
              GError **error)
{
  g_autoptr (GPtrArray) logical = new_volumes ();

  g_ptr_array_unref (disk->volumes);
  disk->volumes = volumes;
  *known = FALSE;
  for (guint i = 0; i < volumes->len; i++) {
    VmaGuestVolume *v = g_ptr_array_index (volumes, i);

    if (v->is_window && !probe_volume (v, cancellable, error))
      return FALSE;
    *known |= v->fs_type != NULL;
    if (v->fs_type != NULL && strcmp (v->fs_type, "LVM2_member") == 0
        && !add_logical_volumes (v, logical, cancellable, error))
      return FALSE;
  }
  g_ptr_array_extend_and_steal (volumes, g_steal_pointer (&logical));
  return TRUE;
}

static gboolean
is_protective (const VmaGuestDisk *disk)
{
  return disk->table != NULL && strcmp (disk->table, "PMBR") == 0;
}

/* The disk's table, and what is in its partitions.  A table does not say how large its sectors are. */
static gboolean
probe_table (VmaGuestDisk *disk, VmaSketch *sketch, guint64 size, GCancellable *cancellable,
             GError **error)
{
  gboolean known = FALSE;
  GPtrArray *volumes = read_table (disk, sketch, 512, size);

  if (volumes != NULL && !is_protective (disk)) {
    if (!take_volumes (disk, volumes, &known, cancellable, error))
      return FALSE;
    if (known || volumes->len == 0 || strcmp (disk->table, "dos") != 0)
      return TRUE;
  } else
    g_clear_pointer (&volumes, g_ptr_array_unref);

  VmaGuestDisk large = { .image = disk->image, .volumes = new_volumes () };
  gboolean ok = TRUE;
  volumes = read_table (&large, sketch, 4096, size);
  if (volumes != NULL && !is_protective (&large))
    ok = take_volumes (&large, volumes, &known, cancellable, error);
  else
    g_clear_pointer (&volumes, g_ptr_array_unref);
  if (ok && volumes != NULL && (known || disk->volumes->len == 0)) {
    VmaGuestDisk old = *disk;
    *disk = large;
    large = old;
  }
  g_ptr_array_unref (large.volumes);
  g_free (large.table);
  g_free (large.table_uuid);
  return ok;
}

/* A disk without partitions: a file system, or a physical volume, in all of it. */
static gboolean
probe_whole (VmaGuestDisk *disk, guint64 size, GCancellable *cancellable, GError **error)
{
  gboolean known;
  GPtrArray *volumes = new_volumes ();

  g_ptr_array_add (volumes,
                   volume_new (disk->image, VMA_GUEST_WHOLE, g_strdup ("whole"), 0, size));
  if (!take_volumes (disk, volumes, &known, cancellable, error))
    return FALSE;
  if (known)
    g_clear_pointer (&disk->table, g_free);
  return TRUE;
}

static gboolean
probe_disk (VmaGuestDisk *disk, GCancellable *cancellable, GError **error)
{
  guint64 size = vma_image_device (disk->image)->size;
  g_autoptr (VmaSketch) sketch = vma_sketch_new (disk->image, 0, size, error);

  if (sketch == NULL || !fill_volume (sketch, size, cancellable, error)
      || !fill_links (sketch, 512, cancellable, error)
      || !fill_links (sketch, 4096, cancellable, error)
      || !probe_table (disk, sketch, size, cancellable, error))
    return FALSE;
  if (is_protective (disk))
    disk->problem = g_strdup_printf (
        "%s: %s: the GUID partition table is broken, and so is its copy",
        vma_archive_path (vma_image_archive (disk->image)),
        vma_names_device (vma_archive_names (vma_image_archive (disk->image)),
                          vma_image_device (disk->image)->id));
  else if (disk->volumes->len == 0 && !probe_whole (disk, size, cancellable, error))
    return FALSE;
  if (disk->problem == NULL)
    disk->problem = g_strdup (vma_sketch_problem (sketch));
  return TRUE;
}

VmaGuest *
vma_guest_probe (VmaArchive *archive, VmaImage *only, GCancellable *cancellable, GError **error)
{
  const GPtrArray *devices = vma_archive_header (archive)->devices;
  g_autoptr (VmaGuest) guest = g_new0 (VmaGuest, 1);

  guest->archive = archive;
  guest->disks = g_ptr_array_new_with_free_func ((GDestroyNotify) disk_free);
  for (guint i = 0; i < devices->len; i++) {
    const VmaDevice *device = g_ptr_array_index (devices, i);
    VmaImage *image = vma_archive_image (archive, device->id);
    g_autoptr (GError) local = NULL;

    if (device->is_vmstate || (only != NULL && image != only))
      continue;
    VmaGuestDisk *disk = g_new0 (VmaGuestDisk, 1);
    disk->image = image;
    disk->sector_size = 512;
    disk->volumes = new_volumes ();
    g_ptr_array_add (guest->disks, disk);
    if (probe_disk (disk, cancellable, &local))
      continue;
    if (g_error_matches (local, VMA_ERROR, VMA_ERROR_CANCELLED)) {
      g_propagate_error (error, g_steal_pointer (&local));
      return NULL;
    }
    g_free (disk->problem);
    disk->problem = g_strdup (local->message);
  }
  resolve_pieces (guest);
  return g_steal_pointer (&guest);
}
