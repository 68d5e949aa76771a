package main_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
)

// TestDocs checks that the pages made from the code are those in docs; with
// -update it writes them.
func TestDocs(t *testing.T) {
	for name, page := range map[string]func(testing.TB) string{
		"configuration.md": configurationPage,
		"cli.md":           commandPage,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "..", "docs", name)
			want := []byte(page(t))
			if *update {
				if err := os.WriteFile(file, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("docs/%s is not what the code says; run go test ./cmd/verdict -run TestDocs -update", name)
			}
		})
	}
}

// TestFlagsHaveUsage keeps commands and flags explained: a command has a short
// text, and each flag a usage text.
func TestFlagsHaveUsage(t *testing.T) {
	for _, cmd := range commands(verdict.Tree()) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short text %q", cmd.CommandPath(), cmd.Short)
		}
		if usage := cmd.LocalFlags().FlagUsages(); regexp.MustCompile(`(?m)^ +--[a-z-]+( [A-Za-z:=|]+)?\s*$`).MatchString(usage) {
			t.Errorf("%s: a flag without a text:\n%s", cmd.CommandPath(), usage)
		}
	}
}

func configurationPage(t testing.TB) string {
	head, err := os.ReadFile("testdata/docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &configPage{TB: t, comments: fieldComments(t), defaults: verdict.Default().Values()}
	p.Write(head)
	p.WriteString("\n## Keys\n")
	p.section(reflect.TypeFor[verdict.Config](), "")
	return p.String()
}

// configPage writes docs/configuration.md.
type configPage struct {
	testing.TB
	strings.Builder
	comments map[string]string // Type.Field -> comment
	defaults map[string]string
}

// section writes the table of the keys in t, then the sections below it.
func (p *configPage) section(t reflect.Type, prefix string) {
	var below []func()
	rows := 0
	for f := range t.Fields() {
		name := f.Tag.Get("key")
		if name == "" {
			continue
		}
		key, comment := prefix+name, p.comment(t, f)
		if isSection(f.Type) {
			below = append(below, func() {
				fmt.Fprintf(p, "\n#%s `%s`\n\n%s\n", strings.Repeat("#", min(2+strings.Count(key, "."), 4)), key, comment)
				p.section(f.Type, key+".")
			})
			continue
		}
		if rows++; rows == 1 {
			p.WriteString("\n| key | type | default | |\n|---|---|---|---|\n")
		}
		if f.Tag.Get("reload") == "yes" {
			comment += " *Reload.*"
		}
		fmt.Fprintf(p, "| `%s` | %s | %s | %s |\n", key, typeName(f.Type), p.shownDefault(key), comment)
		if f.Type.Kind() == reflect.Slice && isSection(f.Type.Elem()) {
			p.entries(f.Type.Elem(), key+"[].")
		}
	}
	for _, write := range below {
		write()
	}
}

// entries writes the rows of the keys of a list's entries.
func (p *configPage) entries(t reflect.Type, prefix string) {
	for f := range t.Fields() {
		name := prefix + f.Tag.Get("key")
		if isSection(f.Type) {
			p.entries(f.Type, name+".")
			continue
		}
		fmt.Fprintf(p, "| `%s` | %s | | %s |\n", name, typeName(f.Type), p.comment(t, f))
	}
}

func (p *configPage) comment(t reflect.Type, f reflect.StructField) string {
	comment := p.comments[t.Name()+"."+f.Name]
	if comment == "" {
		p.Errorf("%s.%s has no comment", t.Name(), f.Name)
	}
	return comment
}

func (p *configPage) shownDefault(key string) string {
	value := p.defaults[key]
	if value == "" || value == "[]" {
		return "none"
	}
	return "`" + strings.ReplaceAll(value, ",", ", ") + "`"
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]()
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[verdict.Size]():
		return "size"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[time.Time]():
		return "time"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Float64:
		return "number"
	case reflect.Slice:
		if isSection(t.Elem()) {
			return "list of sections"
		}
		return "list"
	case reflect.Map:
		return "names with lists"
	default:
		return t.Kind().String()
	}
}

// fieldComments reads the comments on the fields of the Config structs.
func fieldComments(t testing.TB) map[string]string {
	files, err := filepath.Glob("config*.go")
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(file) {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				continue
			}
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				for _, ident := range f.Names {
					comments[spec.Name.Name+"."+ident.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
	}
	return comments
}

// commands gives cmd and all below it.
func commands(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			list = append(list, commands(sub)...)
		}
	}
	return list
}

func commandPage(testing.TB) string {
	var b strings.Builder
	b.WriteString(`# Command line

<!-- Written by go test ./cmd/verdict -run TestDocs -update, from the commands in cmd/verdict. -->

Results go to standard output, everything else to standard error. Unless a command says otherwise it ends with

`)
	b.WriteString(exitCodeTable(verdict.ExitCodesOf(&cobra.Command{})))
	for _, cmd := range commands(verdict.Tree()) {
		if !cmd.HasParent() {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", cmd.CommandPath())
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		b.WriteString(text + "\n")
		if cmd.HasAvailableSubCommands() {
			continue
		}
		usage := strings.TrimRight(cmd.LocalFlags().FlagUsages(), "\n")
		fmt.Fprintf(&b, "\n```\n%s\n", cmd.UseLine())
		if usage != "" {
			fmt.Fprintf(&b, "\n%s\n", usage)
		}
		b.WriteString("```\n")
		if cmd.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
		}
		if codes := verdict.ExitCodesOf(cmd); codes != verdict.ExitCodesOf(&cobra.Command{}) {
			b.WriteString("\n" + exitCodeTable(codes))
		}
	}
	return b.String()
}

// exitCodeTable writes exit codes, one a line, as a table.
func exitCodeTable(codes string) string {
	var b strings.Builder
	b.WriteString("| exit code | |\n|---|---|\n")
	for line := range strings.SplitSeq(codes, "\n") {
		code, text, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, "| %s | %s |\n", code, strings.TrimSpace(text))
	}
	return b.String()
}
