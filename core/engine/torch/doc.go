// Package torch is the only door to libtorch: tensors, autograd and the few
// kernels that segmentation training needs.
//
// It stands on gotch's low-level bindings (github.com/sugarme/gotch/libtch)
// and on one C++ file of its own, shim.cpp, for what gotch lacks. gotch's
// high-level package is not used: it leaves freeing to the garbage collector,
// leaks on in-place operations and ends the process on errors.
//
// # One thread for each device
//
// A Device owns a goroutine locked to an OS thread; every call to libtorch is
// made there, inside Device.Do. Grad mode, error text and the OpenMP team of
// libtorch belong to a thread, so this is what makes them reliable. An
// operation tried from anywhere else panics with ErrThread and touches nothing.
//
// # Scopes own temporaries
//
// Every operation returns a tensor that belongs to the innermost scope and is
// freed at its end. What outlives a scope is returned through Yield or marked
// with Keep, and then freed by hand. Nothing waits for the garbage collector,
// so live tensors and memory stay constant over steps.
//
//	err := dev.Do(func() error {
//		loss := dev.Yield(func() *torch.Tensor {
//			h := torch.Linear(x, w, b)      // freed at the end of Yield
//			return h.ReLU().Mean()          // moves to the scope of Do
//		})
//		loss.Backward()
//		fmt.Println(loss.Item())
//		return nil
//	})
//
// # Errors
//
// Inside Do, operations panic with *Error, which names the operation and the
// shapes; Do returns it as an error. The process and the device stay usable.
package torch
