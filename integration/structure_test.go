package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The limits of docs/contributing.md.
const (
	maxFiles  = 22 // of a package, without tests
	maxFields = 20 // of a struct, except one of options
)

// options are the structs whose every field is an option of a user.
func options(name string) bool {
	return name == "Config" || strings.HasSuffix(name, "Options") || strings.HasSuffix(name, "Opts")
}

// measure returns, of each package that is not a test, how many files it has, and of each struct how many fields, an embedded
// struct counting as one.
func measure(t *testing.T) (files map[string]int, fields map[string]int) {
	t.Helper()
	files, fields = make(map[string]int), make(map[string]int)
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || path == "../integration") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(filepath.Dir(path), "../")
		files[dir]++
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok && !options(spec.Name.Name) {
				n := 0
				for _, f := range s.Fields.List {
					n += max(1, len(f.Names))
				}
				fields[dir+"."+spec.Name.Name] = n
			}
			return true
		})
		return nil
	}))
	return files, fields
}

// Packages and structs stay small enough to be understood. Package aggregate is exempt until it is written anew.
func TestPackagesAndStructsAreSmall(t *testing.T) {
	files, fields := measure(t)
	assert.Greater(t, len(files), 30)
	assert.Greater(t, len(fields), 200)
	for dir, n := range files {
		if dir != "aggregate" {
			assert.LessOrEqual(t, n, maxFiles, "files of package %s", dir)
		}
	}
	for name, n := range fields {
		if !strings.HasPrefix(name, "aggregate.") {
			assert.LessOrEqual(t, n, maxFields, "fields of %s", name)
		}
	}
}
