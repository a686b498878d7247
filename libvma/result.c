/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "libvma/result.h"

#include "vma/error.h"

/* Of fixed size, so that a thread that ends leaves nothing behind. */
static _Thread_local char message[1024];

const char *
vma_version (void)
{
  return VMAFS_VERSION;
}

const char *
vma_message (void)
{
  return message;
}

static VmaResult
result_of (const GError *error)
{
  if (error->domain != VMA_ERROR)
    return VMA_E_IO;
  switch ((VmaError) error->code) {
  case VMA_ERROR_NOT_VMA:
    return VMA_E_NOT_VMA;
  case VMA_ERROR_DAMAGED:
    return VMA_E_DAMAGED;
  case VMA_ERROR_HEADER:
    return VMA_E_HEADER;
  case VMA_ERROR_MISSING:
    return VMA_E_MISSING;
  case VMA_ERROR_UNSUPPORTED:
    return VMA_E_UNSUPPORTED;
  case VMA_ERROR_INVALID:
    return VMA_E_INVALID;
  case VMA_ERROR_CANCELLED:
    return VMA_E_CANCELLED;
  case VMA_ERROR_NO_SPACE:
    return VMA_E_NO_SPACE;
  case VMA_ERROR_IO:
  case VMA_ERROR_CONNECTION:
  case VMA_ERROR_NOTE:
    break;
  }
  return VMA_E_IO;
}

VmaResult
vma_result_take (GError *error)
{
  if (error == NULL)
    return VMA_OK;
  VmaResult result = result_of (error);
  g_strlcpy (message, error->message, sizeof message);
  g_error_free (error);
  return result;
}

VmaResult
vma_result_invalid (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  GError *error = g_error_new_valist (VMA_ERROR, VMA_ERROR_INVALID, format, args);
  va_end (args);
  return vma_result_take (error);
}
