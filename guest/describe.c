/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest/guest.h"

static void
describe_volume (const VmaGuestVolume *v, GString *text)
{
  g_string_append_printf (text, " %s", v->name);
  if (v->fs_type != NULL)
    g_string_append_printf (text, " %s", v->fs_type);
  if (v->fs_label != NULL)
    g_string_append_printf (text, " \"%s\"", v->fs_label);
  if (v->vg != NULL && v->kind != VMA_GUEST_LV)
    g_string_append_printf (text, " of VG %s", v->vg);
}

char *
vma_guest_describe (const VmaGuest *guest)
{
  const VmaNames *names = vma_archive_names (guest->archive);
  GString *text = g_string_new (guest->disks->len == 0 ? "no disk" : NULL);

  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);

    g_string_append_printf (text, "%s%s:", d > 0 ? "; " : "",
                            vma_names_device (names, vma_image_device (disk->image)->id));
    for (guint i = 0; i < disk->volumes->len; i++) {
      if (i > 0)
        g_string_append_c (text, ',');
      describe_volume (g_ptr_array_index (disk->volumes, i), text);
    }
    if (disk->volumes->len == 0)
      g_string_append (text, disk->problem != NULL ? " unreadable" : " nothing");
  }
  return g_string_free (text, FALSE);
}
