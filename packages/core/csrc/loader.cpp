// SPDX-License-Identifier: Apache-2.0
// The loader: a Node addon without libtorch, so that it opens where libtorch is missing and can say
// why. It maps shared libraries with RTLD_GLOBAL, which `process.dlopen` cannot do for a library
// that is no addon: libtorch has to be global before the addon and the kernel libraries bind to it.
// `open(path)` returns nothing and throws the dynamic linker's own message; libraries stay mapped
// for good.

#include <dlfcn.h>
#include <node_api.h>

#include <string>

namespace {

napi_value open_library(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  size_t length = 0;
  if (count < 1 || napi_get_value_string_utf8(env, argument, nullptr, 0, &length) != napi_ok) {
    napi_throw_type_error(env, nullptr, "open(path): path must be a string");
    return nullptr;
  }
  std::string path(length, '\0');
  napi_get_value_string_utf8(env, argument, path.data(), length + 1, &length);
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* reason = dlerror();
    napi_throw_error(env, nullptr, reason != nullptr ? reason : "dlopen failed");
  }
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  napi_value function;
  if (napi_create_function(env, "open", NAPI_AUTO_LENGTH, open_library, nullptr, &function) !=
          napi_ok ||
      napi_set_named_property(env, exports, "open", function) != napi_ok) {
    return nullptr;
  }
  return exports;
}
