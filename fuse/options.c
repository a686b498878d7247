/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/options.h"

#include "fuse/option-list.h"
#include "index/saved.h"
#include "vma/error.h"

#include <string.h>
#include <sys/stat.h>

/* Four of the largest requests: so that one is answered while another one is copied out. */
#define DEFAULT_READAHEAD_KIB 4096
#define DEFAULT_IDLE          60
#define DEFAULT_MAX_OPEN      32

typedef struct {
  const char *name; /* "salvage", or "uid=" where a value follows */
  gboolean (*set) (VmaMountOptions *options, const char *value, GError **error);
} MountOption;

static gboolean
parse_number (const char *value, guint base, guint64 max, guint64 *out, GError **error)
{
  return g_ascii_string_to_unsigned (value, base, 0, max, out, error);
}

static gboolean
set_uid (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  options->has_uid = parse_number (value, 10, G_MAXUINT32 - 1, &number, error);
  options->uid = options->has_uid ? (uid_t) number : 0;
  return options->has_uid;
}

static gboolean
set_gid (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  options->has_gid = parse_number (value, 10, G_MAXUINT32 - 1, &number, error);
  options->gid = options->has_gid ? (gid_t) number : 0;
  return options->has_gid;
}

static gboolean
set_mode (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  options->has_mode = parse_number (value, 8, 0777, &number, error);
  options->mode = options->has_mode ? (mode_t) number : 0;
  return options->has_mode;
}

static gboolean
set_ready_fd (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  if (!parse_number (value, 10, G_MAXINT, &number, error))
    return FALSE;
  options->ready_fd = (int) number;
  return TRUE;
}

static gboolean
set_readahead (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  if (!parse_number (value, 10, 1024 * 1024, &number, error))
    return FALSE;
  options->readahead = (guint) number;
  return TRUE;
}

static gboolean
set_idle (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  if (!parse_number (value, 10, 24 * 60 * 60, &number, error))
    return FALSE;
  options->idle = (guint) number;
  return TRUE;
}

static gboolean
set_max_open (VmaMountOptions *options, const char *value, GError **error)
{
  guint64 number;

  if (!g_ascii_string_to_unsigned (value, 10, 1, 128, &number, error))
    return FALSE;
  options->max_open = (guint) number;
  return TRUE;
}

static gboolean
set_index_cache (VmaMountOptions *options, const char *value, GError **error G_GNUC_UNUSED)
{
  g_free (options->cache_dir);
  options->cache_dir
      = strcmp (value, "none") == 0 ? NULL : g_canonicalize_filename (value, NULL);
  return TRUE;
}

static gboolean
set_base (VmaMountOptions *options, const char *value, GError **error)
{
  if (*value == '\0') {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the name of an archive is missing");
    return FALSE;
  }
  g_free (options->base);
  options->base = g_canonicalize_filename (value, NULL);
  return TRUE;
}

static gboolean
set_salvage (VmaMountOptions *options, const char *value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  options->salvage = TRUE;
  return TRUE;
}

static gboolean
set_direct_io (VmaMountOptions *options, const char *value G_GNUC_UNUSED,
               GError **error G_GNUC_UNUSED)
{
  options->direct_io = TRUE;
  return TRUE;
}

static gboolean
set_wait (VmaMountOptions *options, const char *value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  options->wait = TRUE;
  return TRUE;
}

static gboolean
set_overlay (VmaMountOptions *options, const char *value, GError **error)
{
  if (value != NULL && *value == '\0') {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "the name of a file is missing");
    return FALSE;
  }
  options->overlay = TRUE;
  g_free (options->overlay_file);
  options->overlay_file = g_strdup (value);
  return TRUE;
}

/* mount(8) always says one of both. */
static gboolean
set_rw (VmaMountOptions *options, const char *value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  options->rw = TRUE;
  return TRUE;
}

static gboolean
set_follow (VmaMountOptions *options, const char *value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  options->follow = TRUE;
  return TRUE;
}

/* "512M": a number of bytes, at least a mebibyte. */
static gboolean
parse_size (const char *value, guint64 *out, GError **error)
{
  static const char units[] = "KMGT";
  char *end;
  guint64 number = g_ascii_strtoull (value, &end, 10);
  const char *unit = *end != '\0' ? strchr (units, g_ascii_toupper (*end)) : NULL;
  guint shift = unit != NULL ? 10 * (guint) (unit - units + 1) : 0;

  if (unit != NULL)
    end++;
  if (end == value || *end != '\0' || !g_ascii_isdigit (*value)
      || number > ((guint64) G_MAXINT64 >> shift) || number << shift < 1024 * 1024) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "not a size of 1M or more (such as 512M)");
    return FALSE;
  }
  *out = number << shift;
  return TRUE;
}

static gboolean
set_cache_size (VmaMountOptions *options, const char *value, GError **error)
{
  return parse_size (value, &options->cache_size, error);
}

static gboolean
set_memory_limit (VmaMountOptions *options, const char *value, GError **error)
{
  return parse_size (value, &options->memory_limit, error);
}

static gboolean
set_parts (VmaMountOptions *options, const char *value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  options->parts = TRUE;
  return TRUE;
}

static gboolean
set_sandbox (VmaMountOptions *options, const char *value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
  options->sandbox = VMA_MOUNT_SANDBOX_REQUIRED;
  return TRUE;
}

static gboolean
set_no_sandbox (VmaMountOptions *options, const char *value G_GNUC_UNUSED,
                GError **error G_GNUC_UNUSED)
{
  options->sandbox = VMA_MOUNT_SANDBOX_OFF;
  return TRUE;
}

static const MountOption our_options[] = {
  { "uid=", set_uid },
  { "gid=", set_gid },
  { "mode=", set_mode },
  { "ready_fd=", set_ready_fd },
  { "readahead=", set_readahead },
  { "index_cache=", set_index_cache },
  { "base=", set_base },
  { "salvage", set_salvage },
  { "direct_io", set_direct_io },
  { "wait", set_wait },
  { "follow", set_follow },
  { "parts", set_parts },
  { "overlay", set_overlay },
  { "overlay=", set_overlay },
  { "rw", set_rw },
  { "cache_size=", set_cache_size },
  { "memory_limit=", set_memory_limit },
  { "idle=", set_idle },
  { "max_open=", set_max_open },
  { "sandbox", set_sandbox },
  { "no_sandbox", set_no_sandbox },
};

/* Options that go to libfuse and the kernel as they stand */
static const char *const fuse_options[] = {
  "allow_other", "allow_root", "auto_unmount", "ro",     "dev",   "nodev",     "suid",
  "nosuid",      "exec",       "noexec",       "atime",  "noatime", "sync",    "async",
  "fsname=",     "subtype=",   "context=",     "fscontext=", "defcontext=", "rootcontext=",
};

static gboolean
option_matches (const char *option, const char *name, const char **value)
{
  gsize size = strlen (name);

  if (name[size - 1] != '=') {
    *value = NULL;
    return strcmp (option, name) == 0;
  }
  *value = option + size;
  return strncmp (option, name, size) == 0;
}

VmaMountOptionKind
vma_mount_option_kind (const char *option)
{
  const char *value;

  for (gsize i = 0; i < G_N_ELEMENTS (our_options); i++)
    if (option_matches (option, our_options[i].name, &value))
      return VMA_MOUNT_OPTION_OURS;
  for (gsize i = 0; i < G_N_ELEMENTS (fuse_options); i++)
    if (option_matches (option, fuse_options[i], &value))
      return VMA_MOUNT_OPTION_FUSE;
  return VMA_MOUNT_OPTION_UNKNOWN;
}

static gboolean
apply_option (VmaMountOptions *options, GString *fuse_list, const char *option, GError **error)
{
  const char *value;

  for (gsize i = 0; i < G_N_ELEMENTS (our_options); i++)
    if (option_matches (option, our_options[i].name, &value)) {
      if (our_options[i].set (options, value, error))
        return TRUE;
      g_prefix_error (error, "-o %s: ", option);
      return FALSE;
    }
  for (gsize i = 0; i < G_N_ELEMENTS (fuse_options); i++)
    if (option_matches (option, fuse_options[i], &value)) {
      vma_option_list_append (fuse_list, option);
      return TRUE;
    }
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
               "-o %s: unknown mount option (vmafs --help lists them)", option);
  return FALSE;
}

static gboolean
apply_list (VmaMountOptions *options, GString *fuse_list, const char *list, GError **error)
{
  g_auto (GStrv) split = vma_option_list_split (list, VMA_OPTION_LIST_PLAIN);

  for (guint i = 0; split[i] != NULL; i++)
    if (!apply_option (options, fuse_list, split[i], error))
      return FALSE;
  return TRUE;
}

/* Options that only make sense together. */
static gboolean
check_overlay (VmaMountOptions *options, GError **error)
{
  if (!options->overlay && options->rw)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "-o rw: an archive is never written to (-o overlay writes to a file beside it)");
  else if (options->overlay_file != NULL && options->follow)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "-o overlay=FILE needs an archive that is complete, and -o follow is for others "
                 "(-o overlay makes a temporary file)");
  else if (options->base != NULL && options->salvage)
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "-o base and -o salvage: what was lost could not be told from what did not change");
  else {
    if (!options->overlay)
      options->mode &= 0555; /* nothing can be written then */
    return TRUE;
  }
  return FALSE;
}

static const char description[]
    = "Shows each disk of a VMA archive as a raw image: MOUNTPOINT/disk-NAME.raw\n"
      "Of a directory of archives, shows each as a directory: MOUNTPOINT/ARCHIVE/disk-NAME.raw\n"
      "Unmount with: umount MOUNTPOINT   (or: fusermount3 -u MOUNTPOINT)\n"
      "\n"
      "Mount options (-o):\n"
      "  salvage              mount a damaged archive; what is lost reads as an I/O error\n"
      "  base=ARCHIVE         the archive is a delta: what did not change is in this one\n"
      "  parts                show each partition as a file too: disk-NAME.p2.raw\n"
      "  overlay[=FILE]       make the disks writable: writes go to FILE, or a temporary one\n"
      "  wait                 return only when the whole archive is indexed\n"
      "  uid=N gid=N mode=M   owner and permissions of the files (default: the archive's)\n"
      "  allow_other          let other users in\n"
      "  direct_io            no page cache: faster for one bulk copy, no shared mmap\n"
      "  index_cache=DIR|none where the index is kept between mounts\n"
      "  cache_size=SIZE      compressed archives: decoded data to keep (default 256M)\n"
      "  memory_limit=SIZE    compressed archives: what one decoder may take (default 1G)\n"
      "  follow               the archive is still being written: wait for the rest\n"
      "  readahead=KIB        read-ahead of the mount, root only (default 4096)\n"
      "  idle=SECONDS         directory: close archives that were not used for so long (default 60)\n"
      "  max_open=N           directory: how many archives may be open at once (default 32)\n"
      "  sandbox              refuse to mount where the daemon cannot be confined completely\n"
      "  no_sandbox           do not confine the daemon\n"
      "  ready_fd=N           write a line to this descriptor when the mount answers\n"
      "  ro,fsname=,subtype=,auto_unmount,noatime,nosuid,...  as in mount(8), mount.fuse3(8)\n";

gboolean
vma_mount_options_parse (VmaMountOptions *options, char **argv, GError **error)
{
  g_auto (GStrv) lists = NULL;
  g_auto (GStrv) arguments = g_strdupv (argv); /* GLib moves what it does not know */
  g_autofree char *index_cache = NULL;
  const GOptionEntry entries[] = {
    { "options", 'o', 0, G_OPTION_ARG_STRING_ARRAY, &lists, "Mount options, see below", "OPT,..." },
    { "foreground", 'f', 0, G_OPTION_ARG_NONE, &options->foreground,
      "Stay in the foreground, messages on standard error", NULL },
    { "debug", 'd', 0, G_OPTION_ARG_NONE, &options->debug, "Print FUSE requests (implies -f)",
      NULL },
    { "index-cache", 0, 0, G_OPTION_ARG_FILENAME, &index_cache,
      "Where the index is kept between mounts", "DIR|none" },
    { "version", 'V', 0, G_OPTION_ARG_NONE, &options->show_version, "Print the version", NULL },
    G_OPTION_ENTRY_NULL,
  };
  g_autoptr (GOptionContext) context
      = g_option_context_new ("ARCHIVE|DIRECTORY MOUNTPOINT - mount VMA archives");
  g_autoptr (GString) fuse_list = g_string_new (NULL);

  *options = (VmaMountOptions){
    .ready_fd = -1,
    .scratch.fd = -1,
    .readahead = DEFAULT_READAHEAD_KIB,
    .idle = DEFAULT_IDLE,
    .max_open = DEFAULT_MAX_OPEN,
    .cache_dir = vma_saved_index_default_dir (),
  };
  g_option_context_add_main_entries (context, entries, NULL);
  g_option_context_set_description (context, description);
  if (!g_option_context_parse_strv (context, &arguments, error))
    return FALSE;
  if (options->show_version)
    return TRUE;
  if (index_cache != NULL)
    set_index_cache (options, index_cache, NULL);
  for (guint i = 0; lists != NULL && lists[i] != NULL; i++)
    if (!apply_list (options, fuse_list, lists[i], error))
      return FALSE;

  if (!check_overlay (options, error))
    return FALSE;
  if (g_strv_length (arguments) != 3) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
                 "needs an archive and a mount point: vmafs ARCHIVE MOUNTPOINT [-o OPTIONS]");
    return FALSE;
  }
  options->archive = g_strdup (arguments[1]);
  options->mountpoint = g_canonicalize_filename (arguments[2], NULL);
  options->foreground |= options->debug;
  options->fuse_options = g_strdup (fuse_list->str);
  return TRUE;
}

void
vma_mount_options_clear (VmaMountOptions *options)
{
  g_free (options->base);
  g_free (options->archive);
  g_free (options->mountpoint);
  g_free (options->cache_dir);
  g_free (options->overlay_file);
  g_free (options->fuse_options);
}

VmaArchiveOptions
vma_mount_options_archive (const VmaMountOptions *options)
{
  return (VmaArchiveOptions){
    .salvage = options->salvage,
    .base = options->base,
    .cache_dir = options->cache_dir,
    .checksums_dir = options->cache_dir,
    .cache_size = options->cache_size,
    .memory_limit = options->memory_limit,
    .follow = options->follow,
  };
}
