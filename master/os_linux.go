package master

// self is this program's executable, even when its file was replaced or removed.
func self() (string, error) { return "/proc/self/exe", nil }
