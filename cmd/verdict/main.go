// Command verdict is a zero-trust policy decision point: it answers "may this
// subject do this?" by evaluating Rego, and puts every answer into a log that
// nobody can change unseen before it gives it.
package main

import "os"

func main() {
	os.Exit(run(newProcess(), os.Args[1:]))
}
