"""The protocols of model servers, a module each: how a request is written and how an answer is read, without I/O."""
