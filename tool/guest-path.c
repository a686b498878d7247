/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/guest-path.h"

#include "image/find.h"
#include "source/nbd-uri.h"
#include "tool/command.h"
#include "tool/confine.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "vma/error.h"

#include <string.h>

void
tool_guest_free (ToolGuestPath *path)
{
  g_clear_pointer (&path->ext, vma_ext_free);
  g_clear_pointer (&path->guest, vma_guest_free);
  g_clear_pointer (&path->archive, vma_archive_free);
  g_free (path->prefix);
  g_free (path->path);
  g_free (path);
}

/* --- taking the text apart --------------------------------------------------------------------- */

/* The archive's path; *inside is what follows its ':'.  NULL where there is no ':'. */
static char *
split_archive (const char *text, const char **inside)
{
  const char *first = strchr (text, ':');

  if (g_file_test (text, G_FILE_TEST_EXISTS)) {
    *inside = "";
    return g_strdup (text);
  }
  if (vma_nbd_is_uri (text)) { /* the last one: a guest's path with a ':' has to be mounted */
    const char *colon = strrchr (text, ':');
    *inside = colon + 1;
    return colon > first ? g_strndup (text, (gsize) (colon - text)) : NULL;
  }
  for (const char *colon = strrchr (text, ':'); colon != NULL;) {
    g_autofree char *archive = g_strndup (text, (gsize) (colon - text));
    if (colon == first || g_file_test (archive, G_FILE_TEST_EXISTS)) {
      *inside = colon + 1;
      return g_steal_pointer (&archive);
    }
    do
      colon--;
    /* cppcheck-suppress nullPointerRedundantCheck; it is at a ':', and not at the first one */
    while (*colon != ':');
  }
  return NULL;
}

/* Whether `text` begins with `name` as a whole component; *rest is then what follows. */
static gboolean
skip_component (const char *text, const char *name, const char **rest)
{
  gsize n = strlen (name);

  if (strncmp (text, name, n) != 0 || (text[n] != '/' && text[n] != '\0'))
    return FALSE;
  *rest = text[n] == '/' ? text + n + 1 : text + n;
  return TRUE;
}

static char *
first_component (const char *text)
{
  return g_strndup (text, strcspn (text, "/"));
}

/* Takes a disk off the front, if one is called so. */
static const VmaDevice *
take_disk (VmaArchive *archive, const char **inside)
{
  g_autofree char *name = first_component (*inside);
  const VmaDevice *device = vma_archive_find_disk (archive, name, NULL);

  if (device != NULL)
    skip_component (*inside, name, inside);
  return device;
}

/* Takes the name of a volume off the front; NULL where none is called so. */
static char *
take_volume (const VmaGuest *guest, const char **inside)
{
  g_autofree char *first = first_component (*inside);

  if (strcmp (first, "root") == 0 || g_str_has_prefix (first, "label=")
      || g_str_has_prefix (first, "uuid=")) {
    skip_component (*inside, first, inside);
    return g_steal_pointer (&first);
  }
  for (guint d = 0; d < guest->disks->len; d++) {
    const VmaGuestDisk *disk = g_ptr_array_index (guest->disks, d);
    for (guint i = 0; i < disk->volumes->len; i++) {
      const VmaGuestVolume *v = g_ptr_array_index (disk->volumes, i);
      g_autofree char *number = g_strdup_printf ("%u", v->number);

      if (skip_component (*inside, v->name, inside)
          || (v->kind == VMA_GUEST_PARTITION && skip_component (*inside, number, inside)))
        return g_strdup (v->name);
    }
  }
  return NULL;
}

/* --- finding the file system ------------------------------------------------------------------- */

static const char *
disk_name (const VmaGuestVolume *v)
{
  const char *name = vma_image_device (v->image)->name;

  return g_str_has_prefix (name, "drive-") ? name + strlen ("drive-") : name;
}

static const VmaGuestVolume *
find_volume (ToolGuestPath *path, const char *name, GError **error)
{
  VmaGuestWanted wanted = { .part = name };

  if (name != NULL && g_str_has_prefix (name, "label="))
    wanted = (VmaGuestWanted){ .label = name + strlen ("label=") };
  else if (name != NULL && g_str_has_prefix (name, "uuid="))
    wanted = (VmaGuestWanted){ .uuid = name + strlen ("uuid=") };
  return vma_guest_find (path->guest, &wanted, NULL, tool_cancellable (), error);
}

static gboolean
check_type (VmaArchive *archive, const VmaGuestVolume *v, GError **error)
{
  g_autofree char *disk = vma_name_escape (disk_name (v));

  if (vma_ext_is (v))
    return TRUE;
  if (vma_guest_mount_options (v) != NULL)
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: %s/%s is %s, and only ext2, ext3 and ext4 can be read without mounting "
                 "(as root: mount -t vmafs %s DIR -o disk=%s,%s=%s)",
                 vma_archive_path (archive), disk, v->name, v->fs_type, vma_archive_path (archive),
                 disk, v->kind == VMA_GUEST_LV ? "lv" : "part",
                 v->kind == VMA_GUEST_PARTITION ? v->name + 1 : v->name);
  else
    g_set_error (error, VMA_ERROR, VMA_ERROR_UNSUPPORTED,
                 "%s: %s/%s holds no file system%s%s (vmatool parts shows what there is)",
                 vma_archive_path (archive), disk, v->name, v->fs_type != NULL ? ", but " : "",
                 v->fs_type != NULL ? v->fs_type : "");
  return FALSE;
}

/* With one '/' in front, and never two in a row: libext2fs would look for a name between them. */
static char *
absolute_path (const char *path)
{
  GString *text = g_string_new ("/");

  for (; *path != '\0'; path++)
    if (*path != '/' || text->str[text->len - 1] != '/')
      g_string_append_c (text, *path);
  return g_string_free (text, FALSE);
}

/* `inside` is what the user gave behind the archive. */
static gboolean
find_inside (ToolGuestPath *path, const char *inside, GError **error)
{
  gboolean absolute = *inside == '/' || *inside == '\0';
  const VmaDevice *device = absolute ? NULL : take_disk (path->archive, &inside);
  VmaImage *only = device != NULL ? vma_archive_image (path->archive, device->id) : NULL;

  path->guest = vma_guest_probe (path->archive, only, tool_cancellable (), error);
  if (path->guest == NULL)
    return FALSE;
  g_autofree char *name = absolute ? NULL : take_volume (path->guest, &inside);
  if (name == NULL && device == NULL && !absolute) {
    g_autofree char *first = first_component (inside), *there = vma_guest_describe (path->guest);
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "%s: no disk or partition '%s': there is %s (a path begins with '/')",
                 vma_archive_path (path->archive), first, there);
    return FALSE;
  }
  const VmaGuestVolume *v = find_volume (path, name, error);
  if (v == NULL || !check_type (path->archive, v, error))
    return FALSE;
  path->ext = vma_ext_open (v, tool_cancellable (), error);
  if (path->ext == NULL)
    return FALSE;
  path->prefix
      = g_strdup_printf ("%s:%s/%s", vma_archive_path (path->archive), disk_name (v), v->name);
  path->path = absolute_path (inside);
  const char *problem = vma_ext_journal_problem (path->ext);
  if (problem != NULL)
    tool_error ("note: %s: %s; what the guest wrote last may be missing (mount -t vmafs %s DIR -o "
                "part=...,overlay may get it)",
                path->prefix, problem, vma_archive_path (path->archive));
  return TRUE;
}

void
tool_guest_confine (char **texts, const ToolGuestOptions *options)
{
  g_autoptr (GPtrArray) archives = g_ptr_array_new_with_free_func (g_free);
  const char *inside;

  for (guint i = 0; texts[i] != NULL; i++) {
    char *archive = split_archive (texts[i], &inside);
    if (archive != NULL)
      g_ptr_array_add (archives, archive);
  }
  g_ptr_array_add (archives, NULL);
  tool_confine ((const char *const *) archives->pdata, options->cache_option);
}

ToolGuestPath *
tool_guest_open (const char *text, const ToolGuestOptions *options, gboolean *usage, GError **error)
{
  g_autoptr (ToolGuestPath) path = g_new0 (ToolGuestPath, 1);
  g_autofree char *cache = tool_cache_dir (options->cache_option);
  const char *inside = NULL;
  g_autofree char *archive = split_archive (text, &inside);

  *usage = archive == NULL || *archive == '\0';
  if (*usage) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "'%s' is not ARCHIVE:[DISK/][PART/]PATH, such as backup.vma:/etc/fstab", text);
    return NULL;
  }
  path->archive = tool_open (archive, cache, options->salvage, error);
  if (path->archive == NULL)
    return NULL;
  if (vma_source_is_sequential (vma_archive_source (path->archive))) {
    *usage = TRUE;
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "needs a file, not a pipe");
    return NULL;
  }
  if (!tool_index_archive (path->archive, error) || !find_inside (path, inside, error))
    return NULL;
  return g_steal_pointer (&path);
}

/* --- commands ---------------------------------------------------------------------------------- */

int
tool_guest_do (const char *command, const char *text, const ToolGuestOptions *options,
               ToolGuestAction action, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gboolean is_usage;
  g_autoptr (ToolGuestPath) path = tool_guest_open (text, options, &is_usage, &error);

  if (path == NULL && is_usage)
    return tool_usage_error (command, "%s", error->message);
  if (path != NULL && action (path, data, &error))
    return TOOL_OK;
  return tool_fail (error, options->salvage ? NULL : TOOL_ADVICE_SALVAGE);
}

int
tool_guest_do_all (const char *command, char **texts, const ToolGuestOptions *options,
                   ToolGuestAction action, gpointer data)
{
  int status = TOOL_OK;

  for (guint i = 0; texts[i] != NULL && status == TOOL_OK; i++)
    status = tool_guest_do (command, texts[i], options, action, data);
  return status;
}
