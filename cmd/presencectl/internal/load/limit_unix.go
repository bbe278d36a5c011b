//go:build unix

package load

import "syscall"

// maxFiles is the limit of open files of this process, or 0 if it is unknown.
// The Go runtime has raised it to the maximum.
func maxFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
