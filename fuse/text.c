/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/text.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* More than any notes or log; one of them open takes that much memory. */
#define MAX_FILE ((gsize) 16 << 20)

gboolean
vma_text_reply_open (fuse_req_t req, struct fuse_file_info *file, GBytes *text)
{
  file->fh = (guint64) (guintptr) text;
  file->direct_io = 1; /* its size is not known before it is read */
  if (fuse_reply_open (req, file) != -ENOENT)
    return TRUE;
  vma_text_release (file); /* nobody else will */
  return FALSE;
}

void
vma_text_release (const struct fuse_file_info *file)
{
  g_bytes_unref ((GBytes *) (guintptr) file->fh);
}

void
vma_text_reply_read (const VmaRequest *request, GBytes *text)
{
  if (text == NULL)
    text = (GBytes *) (guintptr) request->file.fh;

  /* With the reply in its hands the reader may close the file before we are back. */
  g_autoptr (GBytes) held G_GNUC_UNUSED = g_bytes_ref (text);
  gsize total;
  const char *data = g_bytes_get_data (text, &total);

  if (request->offset >= total)
    fuse_reply_buf (request->req, NULL, 0);
  else
    fuse_reply_buf (request->req, data + request->offset,
                    MIN (request->size, total - (gsize) request->offset));
}

GBytes *
vma_text_of_file (const char *path)
{
  /* A link could lead to what the reader must not see, and a pipe would never end. */
  int fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat st;
  gsize done = 0;

  if (fd < 0)
    return NULL;
  if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode) || (guint64) st.st_size > MAX_FILE) {
    close (fd);
    errno = EFBIG;
    return NULL;
  }
  g_autofree char *text = g_malloc ((gsize) st.st_size + 1);
  while (done < (gsize) st.st_size) {
    gssize n = read (fd, text + done, (gsize) st.st_size - done);
    if (n <= 0)
      break;
    done += (gsize) n;
  }
  close (fd);
  return g_bytes_new_take (g_steal_pointer (&text), done);
}

gboolean
vma_text_stat_file (const char *path, struct stat *st)
{
  return lstat (path, st) == 0 && S_ISREG (st->st_mode);
}
