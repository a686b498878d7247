/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/input-probe.h"

#include "vma/bytes.h"
#include "vma/error.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_SIZE       4096
#define DESCRIPTION_MAX (64 * 1024)

static const struct {
  const char *format;
  guint offset, size;
  const char *magic;
} magics[] = {
  { "qcow2", 0, 4, "QFI\xfb" },
  { "qed", 0, 4, "QED\0" },
  { "vmdk", 0, 4, "KDMV" },
  { "vmdk", 0, 4, "COWD" },
  { "vmdk", 0, 21, "# Disk DescriptorFile" },
  { "vdi", 64, 4, "\x7f\x10\xda\xbe" },
  { "vhdx", 0, 8, "vhdxfile" },
  { "vpc", 0, 8, "conectix" },
  { "parallels", 0, 16, "WithoutFreeSpace" },
  { "parallels", 0, 16, "WithouFreSpacExt" },
};

/* A vmdk whose description is in the file itself: one that names a parent, or lists other files? */
static gboolean
vmdk_refers_elsewhere (int fd, const guint8 *head)
{
  guint64 at = vma_get_le64 (head + 28), size = vma_get_le64 (head + 36); /* in sectors */
  g_autofree char *text = g_malloc (DESCRIPTION_MAX);

  if (memcmp (head, "KDMV", 4) != 0 || vma_get_le64 (head + 12) == 0)
    return TRUE;
  if (at == 0)
    return FALSE;
  if (at > G_MAXINT64 / 512 || size > DESCRIPTION_MAX / 512)
    return TRUE;
  gssize n = pread (fd, text, size * 512, (off_t) (at * 512));
  return n < 0 || g_strstr_len (text, n, "parentFileNameHint") != NULL;
}

/* Whether the image needs, or may need, other files. */
static gboolean
refers_elsewhere (int fd, const char *format, const guint8 *head)
{
  if (strcmp (format, "qcow2") == 0)
    return vma_get_be64 (head + 8) != 0 /* a base */
           || (vma_get_be32 (head + 4) >= 3 && (vma_get_be64 (head + 72) & 4) != 0); /* data file */
  if (strcmp (format, "qed") == 0)
    return (vma_get_le64 (head + 16) & 1) != 0;
  if (strcmp (format, "vmdk") == 0)
    return vmdk_refers_elsewhere (fd, head);
  if (strcmp (format, "qcow") == 0)
    return vma_get_be64 (head + 8) != 0;
  return FALSE;
}

gboolean
tool_probe (int fd, const char *path, const char **format, GError **error)
{
  guint8 head[HEAD_SIZE] = { 0 };
  struct stat st;

  *format = "raw";
  if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode) || g_str_has_suffix (path, ".raw"))
    return TRUE;
  if (pread (fd, head, sizeof head, 0) < 0) {
    vma_set_errno_error (error, errno, "cannot read at offset 0");
    return FALSE;
  }
  for (guint i = 0; i < G_N_ELEMENTS (magics); i++)
    if (memcmp (head + magics[i].offset, magics[i].magic, magics[i].size) == 0) {
      *format = magics[i].format;
      break;
    }
  if (strcmp (*format, "qcow2") == 0 && vma_get_be32 (head + 4) == 1)
    *format = "qcow";
  if (!refers_elsewhere (fd, *format, head))
    return TRUE;
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID,
               "a %s image that refers to other files (say format=%s:... if you trust it)", *format,
               *format);
  return FALSE;
}
