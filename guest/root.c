/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/root.h"

#include "guest/ext.h"
#include "vma/error.h"

#include <string.h>

/*
 * A rule tells whether a volume is the root.  The first rule that holds for any volume decides; of several
 * volumes the largest is taken.
 */
typedef struct {
  gboolean (*holds) (const VmaGuestVolume *v, GCancellable *cancellable);
  const char *name;
} Rule;

/* Types of partitions that the Discoverable Partitions Specification keeps for the root. */
static const char *const root_types[] = {
  "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", /* x86-64 */
  "44479540-f297-41b2-9af7-d131d5f0458a", /* x86 */
  "b921b045-1df0-41c3-af44-4c6f280d3fae", /* arm64 */
  "69dad710-2ce4-4e3c-b16c-21a1d49abed3", /* arm */
  "72ec70a6-cf74-40e6-bd49-4bda08e8f224", /* riscv64 */
  "c31c45e6-3f39-412e-80fb-4809c4980599", /* ppc64-le */
  "5eead9a9-fe09-4a1e-a1d7-520d00531306", /* s390x */
};

static gboolean
is_file_system (const VmaGuestVolume *v)
{
  return v->is_window && v->fs_usage != NULL && strcmp (v->fs_usage, "filesystem") == 0;
}

static gboolean
is_one_of (const char *text, const char *const *list, gsize n)
{
  for (gsize i = 0; text != NULL && i < n; i++)
    if (g_ascii_strcasecmp (text, list[i]) == 0)
      return TRUE;
  return FALSE;
}

static gboolean
has_root_type (const VmaGuestVolume *v, GCancellable *cancellable G_GNUC_UNUSED)
{
  return is_one_of (v->type, root_types, G_N_ELEMENTS (root_types));
}

/* Whether one of these is in an ext file system; what cannot be read is not there. */
static gboolean
has_file (const VmaGuestVolume *v, const char *const *paths, gsize n, GCancellable *cancellable)
{
  if (!vma_ext_is (v))
    return FALSE;
  g_autoptr (VmaExt) ext = vma_ext_open (v, cancellable, NULL);
  for (gsize i = 0; ext != NULL && i < n; i++) {
    ext2_ino_t ino;
    if (ext2fs_namei (vma_ext_fs (ext), EXT2_ROOT_INO, EXT2_ROOT_INO, paths[i], &ino) == 0)
      return TRUE;
  }
  return FALSE;
}

static gboolean
has_os_release (const VmaGuestVolume *v, GCancellable *cancellable)
{
  static const char *const paths[] = { "/etc/os-release", "/usr/lib/os-release" };

  return has_file (v, paths, G_N_ELEMENTS (paths), cancellable);
}

static gboolean
has_fstab (const VmaGuestVolume *v, GCancellable *cancellable)
{
  static const char *const paths[] = { "/etc/fstab" };

  return has_file (v, paths, G_N_ELEMENTS (paths), cancellable);
}

static gboolean
is_labelled_root (const VmaGuestVolume *v, GCancellable *cancellable G_GNUC_UNUSED)
{
  static const char *const labels[] = { "root", "rootfs", "/", "cloudimg-rootfs" };
  gsize n = G_N_ELEMENTS (labels);

  return is_one_of (v->fs_label, labels, n) || is_one_of (v->part_label, labels, n)
         || (v->kind == VMA_GUEST_LV && g_str_has_suffix (v->name, "/root"));
}

static gboolean
is_linux (const VmaGuestVolume *v, GCancellable *cancellable G_GNUC_UNUSED)
{
  static const char *const types[]
      = { "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "squashfs", "erofs" };

  return is_one_of (v->fs_type, types, G_N_ELEMENTS (types));
}

static gboolean
is_any (const VmaGuestVolume *v G_GNUC_UNUSED, GCancellable *cancellable G_GNUC_UNUSED)
{
  return TRUE;
}

static const Rule rules[] = {
  { has_root_type, "its partition has the type of a root" },
  { has_os_release, "it has an os-release file" },
  { has_fstab, "it has an /etc/fstab" },
  { is_labelled_root, "its label says so" },
  { is_linux, "the largest file system of a Linux" },
  { is_any, "the largest file system" },
};

const VmaGuestVolume *
vma_guest_root (const VmaGuest *guest, const char **rule, GCancellable *cancellable, GError **error)
{
  for (gsize r = 0; r < G_N_ELEMENTS (rules); r++) {
    const VmaGuestVolume *best = NULL;

    for (guint d = 0; d < guest->disks->len; d++) {
      const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
      for (guint i = 0; i < disk->volumes->len; i++) {
        const VmaGuestVolume *v = g_ptr_array_index (disk->volumes, i);
        if (is_file_system (v) && (best == NULL || v->length > best->length)
            && rules[r].holds (v, cancellable))
          best = v;
      }
    }
    if (g_cancellable_is_cancelled (cancellable)) {
      g_set_error (error, VMA_ERROR, VMA_ERROR_CANCELLED, "interrupted");
      return NULL;
    }
    if (best != NULL) {
      if (rule != NULL)
        *rule = rules[r].name;
      return best;
    }
  }
  return NULL;
}
