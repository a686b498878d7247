/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's disk: partitions, logical volumes, file systems, and the files of an ext one.
 *
 * Input: what stands on the disk, { u24 place, u8 n, n * 8 bytes } each, with places in units of 8
 * bytes; the rest is zeros.  The sums of a GPT, of LVM's label and of its metadata are put right.
 */
#include "fuzz/input.h"
#include "fuzz/standalone.h"
#include "guest/ext-files.h"
#include "tests/unit/synth.h"
#include "tests/unit/util.h"
#include "vma/bytes.h"

#include <string.h>
#include <zlib.h>

#define DISK_SIZE (2u << 20)
#define CLUSTERS  (DISK_SIZE / 65536)

static guint8 disk[DISK_SIZE];

static void
fill (Input *input)
{
  memset (disk, 0, sizeof disk);
  while (input->left > 0) {
    guint place = get16 (input) * 256u;
    place = (place + get (input)) * 8;
    const guint8 *bytes;
    gsize n = get_bytes (input, get (input) * 8u, &bytes);
    if (place < DISK_SIZE && n <= DISK_SIZE - place)
      memcpy (disk + place, bytes, n);
  }
}

static void
repair_gpt (guint8 *header)
{
  guint64 at = vma_get_le64 (header + 72) * 512;
  guint64 size = (guint64)vma_get_le32 (header + 80) * vma_get_le32 (header + 84);
  guint32 length = vma_get_le32 (header + 12);

  if (memcmp (header, "EFI PART", 8) != 0 || length < 92 || length > 512)
    return;
  if (at < DISK_SIZE && size <= DISK_SIZE - at)
    vma_put_le32 (header + 88, (guint32)crc32 (0, disk + at, (uInt)size));
  vma_put_le32 (header + 16, 0);
  vma_put_le32 (header + 16, (guint32)crc32 (0, header, length));
}

static guint32
lvm_sum (const guint8 *bytes, gsize size)
{
  return ~(guint32)crc32 (~0xf597a6cfu, bytes, (uInt)size);
}

/* A metadata area's header at `area`, and the text that it names. */
static void
repair_area (guint8 *area, gsize left)
{
  guint64 offset = vma_get_le64 (area + 40), length = vma_get_le64 (area + 48);

  if (memcmp (area + 4, " LVM2 x[5A%r0N*>", 16) != 0)
    return;
  if (offset < left && length <= left - offset)
    vma_put_le32 (area + 56, lvm_sum (area + offset, length));
  vma_put_le32 (area, lvm_sum (area + 4, 508));
}

static void
repair (void)
{
  repair_gpt (disk + 512);
  repair_gpt (disk + DISK_SIZE - 512);
  for (guint at = 0; at < DISK_SIZE; at += 512)
    if (memcmp (disk + at, "LABELONE", 8) == 0)
      vma_put_le32 (disk + at + 16, lvm_sum (disk + at + 20, 492));
    else if (disk[at + 4] == ' ')
      repair_area (disk + at, DISK_SIZE - at);
}

static VmaArchive *
make_archive (void)
{
  SynthSlot slots[CLUSTERS];
  g_autoptr (SynthHeader) builder = synth_header_new ();
  guint8 header[512];

  synth_header_device (builder, 1, "drive-scsi0", DISK_SIZE);
  g_autoptr (GByteArray) file = synth_header_bytes (builder);
  for (guint i = 0; i < CLUSTERS; i++) {
    slots[i] = (SynthSlot){ 1, i, 0 };
    for (guint bit = 0; bit < 16; bit++) {
      const guint8 *block = disk + i * 65536 + bit * 4096;
      if (*block != 0 || memcmp (block, block + 1, 4095) != 0)
        slots[i].mask |= (guint16)(1u << bit);
    }
  }
  synth_extent (header, slots, CLUSTERS);
  g_byte_array_append (file, header, sizeof header);
  for (guint i = 0; i < DISK_SIZE / 4096; i++)
    if ((slots[i / 16].mask >> (i % 16) & 1) != 0)
      g_byte_array_append (file, disk + i * 4096, 4096);
  return util_open (util_file (file->data, file->len), FALSE, NULL);
}

/* --- looking ----------------------------------------------------------------------------------- */

typedef struct {
  guint64 bytes;
  guint files;
} Seen;

static gboolean
take_data (gpointer data, const void *bytes G_GNUC_UNUSED, gsize size,
           guint64 offset G_GNUC_UNUSED, GError **error)
{
  Seen *seen = data;

  seen->bytes += size;
  if (seen->bytes < 4 * DISK_SIZE)
    return TRUE;
  g_set_error (error, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "enough");
  return FALSE;
}

static gboolean
take_xattr (gpointer data, const char *name, const void *value, gsize size, GError **error)
{
  return take_data (data, value, strlen (name) + size, 0, error);
}

static void
look_at_file (VmaExt *ext, ext2_ino_t ino, guint depth, Seen *seen)
{
  VmaExtStat st;

  if (seen->files++ > 60 || depth > 5 || !vma_ext_stat (ext, ino, "x", &st, NULL))
    return;
  vma_ext_xattrs (ext, ino, "x", take_xattr, seen, NULL);
  if (S_ISLNK (st.mode))
    g_free (vma_ext_readlink (ext, &st, "x", NULL));
  if (S_ISREG (st.mode))
    vma_ext_read (ext, ino, "x", take_data, seen, NULL);
  if (!S_ISDIR (st.mode))
    return;
  g_autoptr (GPtrArray) entries = vma_ext_read_dir (ext, ino, "x", NULL);
  for (guint i = 0; entries != NULL && i < entries->len && i < 20; i++) {
    const VmaExtEntry *entry = entries->pdata[i];
    CHECK (strcmp (entry->name, "..") != 0 && strcmp (entry->name, ".") != 0);
    CHECK (!vma_ext_name_is_sane (entry->name) || strchr (entry->name, '/') == NULL);
    look_at_file (ext, entry->ino, depth + 1, seen);
  }
}

static void
look_at_ext (const VmaGuestVolume *volume)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (VmaExt) ext = vma_ext_open (volume, NULL, &error);
  Seen seen = { 0 };
  ext2_ino_t ino;

  CHECK ((ext == NULL) == (error != NULL));
  if (ext == NULL)
    return;
  vma_ext_journal_problem (ext);
  vma_ext_lookup (ext, "/etc/os-release", TRUE, &ino, NULL);
  look_at_file (ext, EXT2_ROOT_INO, 0, &seen);
}

static void
look_at_volume (const VmaGuestVolume *volume)
{
  CHECK (volume->name != NULL);
  if (volume->is_window) {
    CHECK (volume->length > 0 && volume->offset < DISK_SIZE);
    CHECK (volume->length <= DISK_SIZE - volume->offset);
  }
  for (guint i = 0; volume->pieces != NULL && i < volume->pieces->len; i++) {
    const VmaGuestPiece *piece = &g_array_index (volume->pieces, VmaGuestPiece, i);
    CHECK (piece->offset < DISK_SIZE && piece->length <= DISK_SIZE - piece->offset);
  }
  vma_guest_mount_options (volume);
  if (volume->is_window && vma_ext_is (volume))
    look_at_ext (volume);
}

int
LLVMFuzzerTestOneInput (const guint8 *bytes, gsize size)
{
  Input input = { bytes, size };
  const VmaGuestWanted wanted = { 0 }, root = { .part = "root" };

  fill (&input);
  repair ();
  g_autoptr (VmaArchive) archive = make_archive ();
  CHECK (archive != NULL);
  g_autoptr (VmaGuest) guest = vma_guest_probe (archive, NULL, NULL, NULL);
  CHECK (guest != NULL && guest->disks->len == 1);
  const VmaGuestDisk *found = guest->disks->pdata[0];
  for (guint i = 0; i < found->volumes->len && i < 20; i++)
    look_at_volume (found->volumes->pdata[i]);
  g_autofree char *text = vma_guest_describe (guest);
  CHECK (strchr (text, '\n') == NULL);
  vma_guest_find (guest, &wanted, NULL, NULL, NULL);
  vma_guest_find (guest, &root, NULL, NULL, NULL);
  return 0;
}
