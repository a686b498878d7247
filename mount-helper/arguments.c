/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mount-helper/arguments.h"

#include "fuse/option-list.h"
#include "mount-helper/message.h"
#include "source/nbd-uri.h"

#include <getopt.h>
#include <libmount.h>
#include <string.h>

const char mount_arguments_help[]
    = "Usage: mount -t vmafs ARCHIVE DIR [-o OPTION,...]\n"
      "       mount.vmafs ARCHIVE DIR [-sfnv] [-N NAMESPACE] [-o OPTION,...] [-t TYPE]\n"
      "\n"
      "Mounts the disks of a VMA archive as images, or a file system inside one of them.\n"
      "Unmount with: umount DIR\n"
      "\n"
      "A file system of the guest is mounted with any of these options:\n"
      "  disk=NAME       on this disk, such as scsi0\n"
      "  part=N|root     partition N, or the one that is the guest's root\n"
      "  label=LABEL     by the label or the UUID of the file system or the partition\n"
      "  uuid=UUID\n"
      "  lv=VG/NAME      a logical volume\n"
      "  fs=TYPE|auto    mount it as this type (default: auto, what it is recognised as)\n"
      "Other options: those of vmafs (see vmafs --help), and of the guest's file system.\n"
      "\n"
      "  -f  all but the mount itself    -s  drop unknown options\n"
      "  -v  say what is done            -n  no entry in /run/mount/utab\n"
      "  -N NAMESPACE  mount there (a process number, or a path)\n"
      "  -h, --help      -V, --version\n";

/* For mount(8), fstab(5) and systemd; not for a file system. */
static const char *const dropped[] = {
  "rw",       "defaults", "auto",     "noauto",  "user",   "nouser",  "users",
  "owner",    "noowner",  "group",    "nogroup", "nofail", "_netdev", "user=",
  "comment=", "helper=",  "uhelper=", "loud",    "silent",
};

/* Of a guest's mount, where they would mean nothing: it is seen by all, and goes by itself. */
static const char *const dropped_for_guest[] = { "allow_other", "allow_root", "auto_unmount" };

/* Flags of mount(2) that mean nothing to a mount of images. */
static const char *const dropped_for_images[] = {
  "relatime",   "norelatime", "strictatime", "nostrictatime", "lazytime",
  "nolazytime", "diratime",   "nodiratime",  "dirsync",       "mand",
  "nomand",     "iversion",   "noiversion",  "nosymfollow",
};

/* `name` may end in "=": then any value will do. */
static gboolean
is_one_of (const char *option, const char *const *names, gsize n)
{
  for (gsize i = 0; i < n; i++) {
    gsize size = strlen (names[i]);
    if (names[i][size - 1] == '=' ? strncmp (option, names[i], size) == 0
                                  : strcmp (option, names[i]) == 0)
      return TRUE;
  }
  return FALSE;
}
#define IS_ONE_OF(option, names) is_one_of (option, names, G_N_ELEMENTS (names))

static gboolean
is_dropped (const char *option)
{
  return IS_ONE_OF (option, dropped) || g_str_has_prefix (option, "x-")
         || g_str_has_prefix (option, "X-");
}

/* The options that say which file system is wanted; FALSE if this is none of them. */
static gboolean
take_choice (MountArguments *arguments, const char *option)
{
  const struct {
    const char *name;
    char **value;
  } choices[] = {
    { "disk=", &arguments->disk }, { "part=", &arguments->part }, { "label=", &arguments->label },
    { "uuid=", &arguments->uuid }, { "lv=", &arguments->lv },     { "fs=", &arguments->fs_type },
  };

  for (gsize i = 0; i < G_N_ELEMENTS (choices); i++)
    if (g_str_has_prefix (option, choices[i].name)) {
      g_free (*choices[i].value);
      *choices[i].value = g_strdup (option + strlen (choices[i].name));
      return TRUE;
    }
  return FALSE;
}

gboolean
mount_arguments_want_guest (const MountArguments *arguments)
{
  return arguments->disk != NULL || arguments->part != NULL || arguments->label != NULL
         || arguments->uuid != NULL || arguments->lv != NULL || arguments->fs_type != NULL;
}

/* Takes out what is not for a file system at all, and remembers what matters to us. */
static GStrv
take_ours (MountArguments *arguments, const char *list, GError **error)
{
  g_auto (GStrv) options = vma_option_list_split (list, VMA_OPTION_LIST_QUOTES);
  g_autoptr (GStrvBuilder) rest = g_strv_builder_new ();

  for (guint i = 0; options[i] != NULL; i++) {
    const char *option = options[i];

    if (strcmp (option, "remount") == 0) {
      g_set_error (error, HELPER_ERROR, MNT_EX_USAGE,
                   "-o remount: an archive cannot be remounted (umount it, then mount it anew)");
      return NULL;
    }
    if (strcmp (option, "suid") == 0 || strcmp (option, "nosuid") == 0)
      arguments->suid = *option == 's';
    else if (strcmp (option, "dev") == 0 || strcmp (option, "nodev") == 0)
      arguments->dev = *option == 'd';
    else if (!take_choice (arguments, option) && !is_dropped (option))
      g_strv_builder_add (rest, option);
  }
  return g_strv_builder_end (rest);
}

/* Whether the driver is meant, when a guest's file system is mounted: owners are that one's matter.
 */
static gboolean
is_for_driver (const char *option)
{
  static const char *const for_guest[] = { "uid=", "gid=", "mode=" };

  return vma_mount_option_kind (option) == VMA_MOUNT_OPTION_OURS && !IS_ONE_OF (option, for_guest);
}

static void
sort_options (MountArguments *arguments, GStrv options)
{
  g_autoptr (GString) driver = g_string_new (NULL), guest = g_string_new (NULL);
  gboolean want_guest = mount_arguments_want_guest (arguments), read_only = FALSE;

  for (guint i = 0; options[i] != NULL; i++) {
    const char *option = options[i];

    if (strcmp (option, "overlay") == 0 || g_str_has_prefix (option, "overlay="))
      arguments->writable = TRUE;
    if (want_guest && strcmp (option, "ro") == 0)
      read_only = TRUE;
    else if (want_guest && is_for_driver (option))
      vma_option_list_append (driver, option);
    else if (want_guest && !IS_ONE_OF (option, dropped_for_guest))
      vma_option_list_append (guest, option);
    else if (!want_guest && !IS_ONE_OF (option, dropped_for_images)
             && (!arguments->sloppy || vma_mount_option_kind (option) != VMA_MOUNT_OPTION_UNKNOWN))
      vma_option_list_append (driver, option);
  }
  if (read_only)
    arguments->writable = FALSE;
  arguments->driver_list = g_string_free (g_steal_pointer (&driver), FALSE);
  arguments->guest_list = g_string_free (g_steal_pointer (&guest), FALSE);
}

/* What vmafs would say of its options, before it is started. */
static gboolean
check_driver_options (MountArguments *arguments, GError **error)
{
  char *argv[] = { (char *) "vmafs", arguments->archive,     arguments->dir,
                   (char *) "-o",    arguments->driver_list, NULL };
  g_autoptr (GError) why = NULL;

  if (vma_mount_options_parse (&arguments->driver, argv, &why))
    return TRUE;
  g_set_error_literal (error, HELPER_ERROR, MNT_EX_USAGE, why->message);
  return FALSE;
}

static gboolean
check_choice (MountArguments *arguments, GError **error)
{
  const char *wrong = NULL;

  if (arguments->lv != NULL && arguments->part != NULL)
    wrong = "-o lv= and part= exclude each other";
  else if (arguments->lv != NULL && strchr (arguments->lv, '/') == NULL)
    wrong = "-o lv=: needs a volume group and a name, such as lv=vg/root";
  if (wrong != NULL)
    g_set_error_literal (error, HELPER_ERROR, MNT_EX_USAGE, wrong);
  if (g_strcmp0 (arguments->fs_type, "auto") == 0 || g_strcmp0 (arguments->fs_type, "") == 0)
    *arguments->fs_type = '\0'; /* still a wish for a file system */
  return wrong == NULL;
}

/* -N takes a process number or a path. */
static char *
namespace_path (const char *argument)
{
  return *argument != '\0' && argument[strspn (argument, "0123456789")] == '\0'
             ? g_strdup_printf ("/proc/%s/ns/mnt", argument)
             : g_strdup (argument);
}

gboolean
mount_arguments_parse (MountArguments *arguments, int argc, char **argv, GError **error)
{
  static const struct option long_options[]
      = { { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { 0 } };
  g_autoptr (GString) list = g_string_new (NULL);
  int c;

  *arguments = (MountArguments){ .driver.ready_fd = -1 };
  opterr = 0;
  while ((c = getopt_long (argc, argv, "sfnvN:o:t:hV", long_options, NULL)) != -1)
    switch (c) {
    case 's':
      arguments->sloppy = TRUE;
      break;
    case 'f':
      arguments->fake = TRUE;
      break;
    case 'n':
      arguments->no_mtab = TRUE;
      break;
    case 'v':
      arguments->verbose = TRUE;
      break;
    case 'h':
      arguments->show_help = TRUE;
      return TRUE;
    case 'V':
      arguments->show_version = TRUE;
      return TRUE;
    case 't':
      break; /* we are called by it */
    case 'N':
      g_free (arguments->namespace);
      arguments->namespace = namespace_path (optarg);
      break;
    case 'o':
      g_string_append_printf (list, "%s%s", list->len > 0 ? "," : "", optarg);
      break;
    default:
      g_set_error (error, HELPER_ERROR, MNT_EX_USAGE,
                   "%s: unknown option, or without its value "
                   "(see mount.vmafs --help)",
                   argv[optind - 1]);
      return FALSE;
    }
  if (argc - optind != 2) {
    g_set_error (error, HELPER_ERROR, MNT_EX_USAGE,
                 "needs an archive and a directory: mount -t vmafs ARCHIVE DIR [-o OPTIONS]");
    return FALSE;
  }
  arguments->archive = vma_nbd_absolute (argv[optind]);
  arguments->dir = g_canonicalize_filename (argv[optind + 1], NULL);

  g_auto (GStrv) options = take_ours (arguments, list->str, error);
  if (options == NULL)
    return FALSE;
  sort_options (arguments, options);
  return check_choice (arguments, error) && check_driver_options (arguments, error);
}

void
mount_arguments_clear (MountArguments *arguments)
{
  g_free (arguments->namespace);
  g_free (arguments->archive);
  g_free (arguments->dir);
  g_free (arguments->disk);
  g_free (arguments->part);
  g_free (arguments->label);
  g_free (arguments->uuid);
  g_free (arguments->lv);
  g_free (arguments->fs_type);
  g_free (arguments->driver_list);
  g_free (arguments->guest_list);
  vma_mount_options_clear (&arguments->driver);
}
