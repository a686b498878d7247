/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/lvm.h"

#include "guest/lvm-text.h"
#include "vma/bytes.h"
#include "vma/error.h"

#include <string.h>
#include <zlib.h>

#define SECTOR        512u
#define LABEL_SECTORS 4
#define PV_HEADER     40 /* id and size; then the areas, two numbers each, ended by zeros */
#define AREA_MAGIC    " LVM2 x[5A%r0N*>"
#define MAX_LOCATIONS 64
#define MAX_SEGMENTS  4096

/* --- on the disk ------------------------------------------------------------------------------- */

static guint32
checksum (const guint8 *bytes, gsize size)
{
  /* The usual CRC with a start of its own and without inversions, which zlib's has. */
  return ~(guint32) crc32 (~0xf597a6cfu, bytes, (uInt) size);
}

static const guint8 *
find_label (const guint8 *head, gsize size)
{
  for (guint i = 0; i < LABEL_SECTORS && (i + 1) * SECTOR <= size; i++) {
    const guint8 *label = head + i * SECTOR;
    if (memcmp (label, "LABELONE", 8) == 0 && memcmp (label + 24, "LVM2 001", 8) == 0)
      return label;
  }
  return NULL;
}

/* Behind the list of locations that begins at `at` and ends with zeros; 0 where it does not end. */
static gsize
skip_locations (const guint8 *label, gsize at)
{
  for (guint i = 0; i < MAX_LOCATIONS && at + 16 <= SECTOR; i++, at += 16)
    if (vma_get_le64 (label + at) == 0)
      return at + 16;
  return 0;
}

gboolean
vma_lvm_find_area (const guint8 *head, gsize size, guint64 *offset, guint64 *length)
{
  const guint8 *label = find_label (head, size);

  if (label == NULL)
    return FALSE;
  gsize at = vma_get_le32 (label + 20); /* of the header in the label's sector */
  if (at > SECTOR - PV_HEADER)
    return FALSE;
  at = skip_locations (label, at + PV_HEADER); /* the data areas */
  if (at == 0 || at + 16 > SECTOR)
    return FALSE;
  *offset = vma_get_le64 (label + at);
  *length = vma_get_le64 (label + at + 8);
  return *offset != 0 && *length > VMA_LVM_AREA_HEADER;
}

GBytes *
vma_lvm_area_text (const guint8 *area, gsize size, GError **error)
{
  const guint8 *location = area + 40;

  if (size <= VMA_LVM_AREA_HEADER || memcmp (area + 4, AREA_MAGIC, 16) != 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "LVM metadata: the header is broken");
    return NULL;
  }
  guint64 offset = vma_get_le64 (location), length = vma_get_le64 (location + 8);
  if (offset == 0) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED,
                 "LVM: the physical volume is not in a volume group");
    return NULL;
  }
  if (offset < VMA_LVM_AREA_HEADER || offset >= size || length > size - VMA_LVM_AREA_HEADER) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "LVM metadata: the text is out of bounds");
    return NULL;
  }
  g_autoptr (GByteArray) text = g_byte_array_new ();
  gsize first = (gsize) MIN (length, size - offset);
  g_byte_array_append (text, area + offset, (guint) first);
  g_byte_array_append (text, area + VMA_LVM_AREA_HEADER, (guint) (length - first));
  if (checksum (text->data, text->len) != vma_get_le32 (location + 16)) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "LVM metadata: checksum mismatch");
    return NULL;
  }
  return g_byte_array_free_to_bytes (g_steal_pointer (&text));
}

/* --- the text ---------------------------------------------------------------------------------- */

typedef struct {
  const char *pv;    /* what the text calls our physical volume */
  gboolean is_first; /* of those in the text */
  guint64 data;      /* its first extent, in sectors */
  guint64 extent;    /* sectors */
  const VmaLvmNode *all; /* physical volumes of the group */
} Ours;

static void
volume_free (VmaLvmVolume *volume)
{
  g_clear_pointer (&volume->pieces, g_array_unref);
  g_free (volume->name);
  g_free (volume);
}

void
vma_lvm_group_free (VmaLvmGroup *group)
{
  g_free (group->vg);
  g_ptr_array_unref (group->volumes);
  g_free (group);
}

static gboolean
find_ours (const VmaLvmNode *vg, const char *uuid, Ours *ours)
{
  const VmaLvmNode *all = vma_lvm_node_section (vg, "physical_volumes");

  if (!vma_lvm_node_number (vg, "extent_size", 0, &ours->extent) || ours->extent == 0)
    return FALSE;
  ours->all = all;
  for (guint i = 0; all != NULL && i < all->children->len; i++) {
    const VmaLvmNode *pv = g_ptr_array_index (all->children, i);
    const char *id = vma_lvm_node_string (pv, "id", 0);

    if (id != NULL && uuid != NULL && strcmp (id, uuid) == 0) {
      ours->pv = pv->name;
      ours->is_first = i == 0;
      return vma_lvm_node_number (pv, "pe_start", 0, &ours->data);
    }
  }
  return FALSE;
}

static gboolean
has_status (const VmaLvmNode *lv, const char *wanted)
{
  const char *status;

  for (guint i = 0; (status = vma_lvm_node_string (lv, "status", i)) != NULL; i++)
    if (strcmp (status, wanted) == 0)
      return TRUE;
  return FALSE;
}

/* first + count * unit sectors, as bytes. */
static gboolean
to_bytes (guint64 first, guint64 count, guint64 unit, guint64 *bytes)
{
  guint64 sectors;

  return g_uint64_checked_mul (&sectors, count, unit)
         && g_uint64_checked_add (&sectors, sectors, first)
         && g_uint64_checked_mul (bytes, sectors, SECTOR);
}

/* Notes a linear segment's place; a volume with any other has no pieces. */
static void
add_piece (VmaLvmVolume *volume, const Ours *ours, const char *pv_name, guint64 from, guint64 size)
{
  const VmaLvmNode *pv = vma_lvm_node_section (ours->all, pv_name);
  const char *id = pv != NULL ? vma_lvm_node_string (pv, "id", 0) : NULL;
  VmaLvmPiece piece = { .length = size };
  guint64 data;

  if (volume->pieces == NULL)
    return;
  if (id == NULL || g_strlcpy (piece.pv_uuid, id, sizeof piece.pv_uuid) >= sizeof piece.pv_uuid
      || !vma_lvm_node_number (pv, "pe_start", 0, &data)
      || !to_bytes (data, from, ours->extent, &piece.offset))
    g_clear_pointer (&volume->pieces, g_array_unref);
  else
    g_array_append_val (volume->pieces, piece);
}

/* Adds a segment to the volume, which stays a window if that stands right behind what there is. */
static gboolean
add_segment (const VmaLvmNode *segment, const Ours *ours, guint i, VmaLvmVolume *volume,
             gboolean *is_ours)
{
  const char *type = vma_lvm_node_string (segment, "type", 0);
  const char *pv = vma_lvm_node_string (segment, "stripes", 0);
  guint64 first, start, extents, stripes = 0, from = 0, size, at;

  /* Each begins where the one before it ends. */
  if (!vma_lvm_node_number (segment, "start_extent", 0, &first)
      || !to_bytes (0, first, ours->extent, &start) || start != volume->length
      || !vma_lvm_node_number (segment, "extent_count", 0, &extents) || extents == 0
      || !to_bytes (0, extents, ours->extent, &size))
    return FALSE;
  gboolean is_linear = type != NULL && strcmp (type, "striped") == 0
                       && vma_lvm_node_number (segment, "stripe_count", 0, &stripes)
                       && stripes == 1 && pv != NULL
                       && vma_lvm_node_number (segment, "stripes", 1, &from);
  if (i == 0)
    *is_ours = pv != NULL ? strcmp (pv, ours->pv) == 0 : ours->is_first;
  if (is_linear)
    add_piece (volume, ours, pv, from, size);
  if (!is_linear) {
    g_clear_pointer (&volume->pieces, g_array_unref);
    volume->is_window = FALSE;
    if (volume->layout == NULL)
      volume->layout = type != NULL && g_str_has_prefix (type, "thin") ? "thin"
                       : type != NULL && strcmp (type, "striped") == 0 ? "striped"
                       : type != NULL && g_str_has_prefix (type, "raid") ? "raid"
                                                                         : "not linear";
  } else if (strcmp (pv, ours->pv) != 0 || !to_bytes (ours->data, from, ours->extent, &at)
             || (i > 0 && at != volume->offset + volume->length)) {
    volume->is_window = FALSE;
    if (volume->layout == NULL)
      volume->layout = "in several pieces";
  } else if (i == 0)
    volume->offset = at;
  return g_uint64_checked_add (&volume->length, volume->length, size);
}

static gboolean
add_volume (const VmaLvmNode *lv, const Ours *ours, VmaLvmGroup *group)
{
  VmaLvmVolume *volume = g_new0 (VmaLvmVolume, 1);
  gboolean is_ours = FALSE;
  guint64 segments = 0;

  volume->name = g_strdup (lv->name);
  volume->pieces = g_array_new (FALSE, FALSE, sizeof (VmaLvmPiece));
  volume->is_window = vma_lvm_node_number (lv, "segment_count", 0, &segments) && segments > 0;
  if (segments == 0 || segments > MAX_SEGMENTS)
    g_clear_pointer (&volume->pieces, g_array_unref);
  if (segments > MAX_SEGMENTS) {
    volume->is_window = FALSE;
    volume->layout = "in several pieces";
    segments = MAX_SEGMENTS; /* the length is wrong then, which nobody can use anyway */
  }
  for (guint i = 0; i < segments; i++) {
    g_autofree char *name = g_strdup_printf ("segment%u", i + 1);
    const VmaLvmNode *segment = vma_lvm_node_section (lv, name);
    if (segment == NULL || !add_segment (segment, ours, i, volume, &is_ours)) {
      volume_free (volume);
      return FALSE;
    }
  }
  if (volume->is_window)
    volume->layout = "linear";
  if (is_ours)
    g_ptr_array_add (group->volumes, volume);
  else
    volume_free (volume);
  return TRUE;
}

static gboolean
bad_text (const char *why, GError **error)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_DAMAGED, "LVM metadata: %s", why);
  return FALSE;
}

static gboolean
parse_group (const VmaLvmNode *vg, const char *pv_uuid, VmaLvmGroup *group, GError **error)
{
  const VmaLvmNode *lvs = vma_lvm_node_section (vg, "logical_volumes");
  Ours ours = { 0 };

  if (!find_ours (vg, pv_uuid, &ours))
    return bad_text ("it does not name the physical volume it is on", error);
  for (guint i = 0; lvs != NULL && i < lvs->children->len; i++) {
    const VmaLvmNode *lv = g_ptr_array_index (lvs->children, i);
    /* Others are parts of some, as the pool of a thin volume. */
    if (lv->children != NULL && has_status (lv, "VISIBLE") && !add_volume (lv, &ours, group))
      return bad_text ("a logical volume's segments are broken", error);
  }
  return TRUE;
}

VmaLvmGroup *
vma_lvm_parse (const char *text, gsize size, const char *pv_uuid, GError **error)
{
  g_autoptr (VmaLvmNode) root = vma_lvm_text_parse (text, size, error);

  for (guint i = 0; root != NULL && i < root->children->len; i++) {
    const VmaLvmNode *node = g_ptr_array_index (root->children, i);

    if (node->children == NULL)
      continue; /* the group is the only section; the rest is about the text */
    g_autoptr (VmaLvmGroup) group = g_new0 (VmaLvmGroup, 1);
    group->vg = g_strdup (node->name);
    group->volumes = g_ptr_array_new_with_free_func ((GDestroyNotify) volume_free);
    return parse_group (node, pv_uuid, group, error) ? g_steal_pointer (&group) : NULL;
  }
  if (root != NULL)
    bad_text ("no volume group in it", error);
  return NULL;
}
