//go:build unix

package load

import "syscall"

// maxFiles is how many files this process may have open, or 0 if that is not
// known. The Go runtime has raised it as far as may be.
func maxFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
