/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/guest.h"

#include "guest/root.h"
#include "vma/error.h"

#include <string.h>

/* --- what fits --------------------------------------------------------------------------------- */

static gboolean
is_called (const VmaGuestVolume *v, const char *part)
{
  guint64 number;

  if (g_ascii_strcasecmp (part, v->name) == 0)
    return TRUE;
  return v->kind == VMA_GUEST_PARTITION
         && g_ascii_string_to_unsigned (part, 10, 1, G_MAXUINT, &number, NULL)
         && number == v->number;
}

static gboolean
fits (const VmaGuestVolume *v, const VmaGuestWanted *wanted)
{
  if (wanted->part != NULL && !is_called (v, wanted->part))
    return FALSE;
  if (wanted->label != NULL && g_strcmp0 (wanted->label, v->fs_label) != 0
      && g_strcmp0 (wanted->label, v->part_label) != 0)
    return FALSE;
  return wanted->uuid == NULL
         || (v->fs_uuid != NULL && g_ascii_strcasecmp (wanted->uuid, v->fs_uuid) == 0)
         || (v->part_uuid != NULL && g_ascii_strcasecmp (wanted->uuid, v->part_uuid) == 0);
}

/* How many volumes fit; *found is the last of them. */
static guint
count_fitting (const VmaGuest *guest, const VmaGuestWanted *wanted, const VmaGuestVolume **found)
{
  guint n = 0;

  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
    for (guint i = 0; i < disk->volumes->len; i++) {
      const VmaGuestVolume *v = g_ptr_array_index (disk->volumes, i);
      if (fits (v, wanted)) {
        *found = v;
        n++;
      }
    }
  }
  return n;
}

/* --- and what does not ------------------------------------------------------------------------- */

static char *
describe_wish (const VmaGuestWanted *wanted)
{
  GString *text = g_string_new (NULL);
  const char *const values[] = { wanted->part, wanted->label, wanted->uuid };
  const char *const names[] = { "partition", "label", "uuid" };

  for (gsize i = 0; i < G_N_ELEMENTS (values); i++)
    if (values[i] != NULL)
      g_string_append_printf (text, "%s%s '%s'", text->len > 0 ? " with " : "", names[i],
                              values[i]);
  return g_string_free (text, FALSE);
}

static void
set_not_found (const VmaGuest *guest, const char *what, GError **error)
{
  g_autofree char *there = vma_guest_describe (guest);
  const char *problem = NULL;

  for (guint d = 0; d < guest->disks->len && problem == NULL; d++)
    problem = ((const VmaGuestDisk *) g_ptr_array_index (guest->disks, d))->problem;
  if (problem != NULL) /* names the archive */
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s; %s: there is %s", problem, what, there);
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: %s: there is %s",
                 vma_archive_path (guest->archive), what, there);
}

static const VmaGuestVolume *
checked (const VmaGuest *guest, const VmaGuestVolume *v, const VmaGuestWanted *wanted,
         GError **error)
{
  if (v->is_window || (wanted->accept_pieces && v->pieces != NULL))
    return v;
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: %s/%s: %s",
               vma_archive_path (guest->archive),
               vma_names_device (vma_archive_names (guest->archive),
                                 vma_image_device (v->image)->id),
               v->name,
               v->problem != NULL ? v->problem : "an extended partition holds no file system");
  return NULL;
}

static const VmaGuestVolume *
find_root (const VmaGuest *guest, const char **rule, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) local = NULL;
  const VmaGuestVolume *root = vma_guest_root (guest, rule, cancellable, &local);

  if (root == NULL && local != NULL)
    g_propagate_error (error, g_steal_pointer (&local));
  else if (root == NULL)
    set_not_found (guest, "no file system that could be the guest's root", error);
  return root;
}

const VmaGuestVolume *
vma_guest_find (const VmaGuest *guest, const VmaGuestWanted *wanted, const char **rule,
                GCancellable *cancellable, GError **error)
{
  gboolean is_wish = wanted->part != NULL || wanted->label != NULL || wanted->uuid != NULL;
  const VmaGuestVolume *found = NULL;

  if (rule != NULL)
    *rule = NULL;
  if (!is_wish || g_strcmp0 (wanted->part, "root") == 0)
    return find_root (guest, rule, cancellable, error);

  guint n = count_fitting (guest, wanted, &found);
  if (n == 1)
    return checked (guest, found, wanted, error);
  g_autofree char *wish = describe_wish (wanted);
  g_autofree char *what = g_strdup_printf ("%s %s", n == 0 ? "no" : "more than one", wish);
  set_not_found (guest, what, error);
  return NULL;
}

/* --- mounting ---------------------------------------------------------------------------------- */

const char *
vma_guest_mount_options (const VmaGuestVolume *v)
{
  static const struct {
    const char *type, *options;
  } special[] = {
    /* A journal is left alone: to carry it out would be to write. */
    { "ext3", "ro,noload" },
    { "ext4", "ro,noload" },
    /* nouuid: the guest's disk, or another backup of it, may be mounted on this host too. */
    { "xfs", "ro,norecovery,nouuid" },
    { "btrfs", "ro,rescue=nologreplay" },
    { "f2fs", "ro,norecovery" },
    { "nilfs2", "ro,norecovery" },
    { "reiserfs", "ro,nolog" },
  };

  if (!v->is_window || g_strcmp0 (v->fs_usage, "filesystem") != 0)
    return NULL;
  for (gsize i = 0; i < G_N_ELEMENTS (special); i++)
    if (strcmp (v->fs_type, special[i].type) == 0)
      return special[i].options;
  return "ro";
}
