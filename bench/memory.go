package main

import (
	"context"
	"io"
)

func memoryCommand(ctx context.Context, args []string, out io.Writer) error  { return nil }
func profileCommand(ctx context.Context, args []string, out io.Writer) error { return nil }
