"""A stand-in for a device without float64, such as Apple's mps, on the CPU."""

import torch

TO_CPU = (torch.Tensor.cpu, torch.Tensor.to)


class WithoutFloat64(torch.Tensor):
    """A tensor of a device without float64: `tensor.as_subclass(WithoutFloat64)`.

    What is computed from it is of that device too, until `.cpu()` or `.to("cpu")`.
    """

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function is torch.Tensor.numpy:
            raise TypeError("can't convert a tensor of this device to numpy; use .cpu() first")
        result = super().__torch_function__(function, types, arguments, options or {})
        if function in TO_CPU and (function is torch.Tensor.cpu or "cpu" in arguments):
            return result.as_subclass(torch.Tensor)
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, cls) and tensor.dtype == torch.float64:
                raise TypeError(f"{function.__name__}: this device has no float64")
        return result
