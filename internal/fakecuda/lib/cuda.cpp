// Takes the place of the driver, libcuda.so.1, for the few questions that the engine
// asks it.
#include <stddef.h>
#include <stdio.h>

extern "C" {
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int cuDeviceGet(int *device, int index) { return *device = index, 0; }
int cuDeviceGetName(char *name, int n, int device) { return snprintf(name, n, "Fake GPU"), 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = size_t(16) << 30, 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) { return *value = attribute == 75 ? 9 : 0, 0; }
}
