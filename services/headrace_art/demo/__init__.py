"""The part of `headrace demo` with students: two nights of a made-up state."""
