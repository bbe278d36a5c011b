//go:build !unix

package load

// maxFiles is the limit of open files of this process, or 0 if it is unknown.
func maxFiles() uint64 { return 0 }
