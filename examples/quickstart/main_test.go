package main

func Example() {
	main()
	// Output:
	// ann joined: Available
	// ann updated: Busy
	// ann updated: Available
	// ann left: Offline
}
