/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuse/request.h"

#include "fuse/parked.h"
#include "vma/error.h"

#include <errno.h>

void
vma_request_submit (const VmaRequest *request, gboolean (*is_ready) (const VmaRequest *request),
                    void (*answer) (const VmaRequest *request))
{
  VmaRequest submitted = *request;

  submitted.is_ready = is_ready;
  submitted.answer = answer;
  vma_parked_submit (request->mounted->parked, &submitted);
}

void
vma_request_settle (const VmaRequest *request)
{
  /* Returns only when no interrupt is being delivered. */
  if (request->cancellable != NULL)
    fuse_req_interrupt_func (request->req, NULL, NULL);
}

void
vma_request_fail (const VmaRequest *request, const GError *error)
{
  gboolean ours = error->domain == VMA_ERROR;
  int code = EIO;

  if (ours && error->code == VMA_ERROR_CANCELLED)
    code = EINTR;
  else if (ours && error->code == VMA_ERROR_NO_SPACE)
    code = ENOSPC;
  else if (ours && error->code == VMA_ERROR_UNSUPPORTED)
    code = EOPNOTSUPP;
  else if (ours && error->code == VMA_ERROR_INVALID)
    code = EFBIG; /* behind the end of a disk */
  if (code == EIO || code == ENOSPC)
    vma_read_errors_add (request->mounted->errors, error);
  fuse_reply_err (request->req, code);
}
