// Command interop is a second implementation of Tallystick's suite TS1 and evidence file, written from docs/spec.
package main

import (
	"fmt"
	"os"

	"tallystick-interop/vectors"
)

func main() {
	passed, failed := 0, 0
	report := func(name string, err error) {
		if err == nil {
			passed++
			fmt.Printf("ok   %s\n", name)
			return
		}
		failed++
		fmt.Printf("FAIL %s: %v\n", name, err)
	}
	if err := vectors.Run(os.Args[1], report); err != nil {
		report("x", err)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
}
