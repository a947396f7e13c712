#!/usr/bin/env bash
# Builds PyCUDA into the active environment where no CUDA toolkit is installed: its headers and
# nvcc come from NVIDIA's Python packages, of CUDA 13. It needs a C++ compiler, no GPU and no
# driver. Where there is a toolkit, `pip install pycuda` does the same with that.
set -euo pipefail

names=(nvidia-cuda-{nvcc,crt,cccl,runtime,profiler-api} nvidia-nvvm)
python -m pip install --quiet --no-deps "${names[@]/%/==13.0.*}"
toolkit=$(python -c 'import nvidia; print(f"{list(nvidia.__path__)[0]}/cu13")')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m pip download --quiet --no-deps --no-binary pycuda --dest "$work" pycuda
tar -xzf "$work"/pycuda-*.tar.gz -C "$work"
# To be linked with; the driver itself is looked for when PyCUDA is imported.
echo 'void cuInit(void) {}' >"$work/stub.c"
cc -shared "$work/stub.c" -o "$work/libcuda.so" -Wl,-soname,libcuda.so.1
cd "$work"/pycuda-*/
cat >siteconf.py <<CONF
CUDA_ROOT = "$toolkit"
CUDA_ENABLE_CURAND = False
CUDADRV_LIB_DIR = ["$work"]
CONF
python -m pip install --quiet .
python -c 'import importlib.metadata as m; print("pycuda", m.version("pycuda"), "is installed")'
