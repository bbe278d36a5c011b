//go:build unix

package wire

import "syscall"

const canTry = true

// tryWrite writes what a socket takes at once. Those of package net never wait
// by themselves.
func tryWrite(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err := syscall.Write(int(fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, nil
		}
		return max(n, 0), err
	}
}
