package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tallystick-interop/ts1"
)

type wycheproofTest struct {
	TcID                              int
	Comment, Result                   string
	Msg, Sig, Private, Public, Shared Hex
}

type wycheproofGroup struct {
	PublicKey struct{ Pk Hex }
	Tests     []wycheproofTest
}

// RunWycheproof runs the files of Wycheproof that lie in a folder against docs/spec/session.md §1. They are no part of
// the project: an error for which errors.Is(err, fs.ErrNotExist) holds says that they are not there.
func RunWycheproof(folder string, report Report) error {
	for _, file := range []struct {
		name  string
		check func(group *wycheproofGroup, test *wycheproofTest) error
	}{{"ed25519_test.json", wycheproofEd25519}, {"x25519_test.json", wycheproofX25519}} {
		data, err := os.ReadFile(filepath.Join(folder, file.name))
		if err != nil {
			return err
		}
		var content struct{ TestGroups []wycheproofGroup }
		if err := json.Unmarshal(data, &content); err != nil {
			return fmt.Errorf("%s: %w", file.name, err)
		}
		count := 0
		var failed error
		for _, group := range content.TestGroups {
			for _, test := range group.Tests {
				count++
				if err := file.check(&group, &test); err != nil {
					failed = first(failed, fmt.Errorf("tcId %d, %s: %w", test.TcID, test.Comment, err))
				}
			}
		}
		if count == 0 {
			failed = errors.New("no cases")
		}
		report(fmt.Sprintf("Wycheproof %s: %d cases", file.name, count), failed)
	}
	return nil
}

// Absent says whether an error of RunWycheproof means that the files are not there.
func Absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func wycheproofEd25519(group *wycheproofGroup, test *wycheproofTest) error {
	if accepted := ts1.Verify(group.PublicKey.Pk, test.Msg, test.Sig); accepted != (test.Result == "valid") {
		return fmt.Errorf("accepted is %t", accepted)
	}
	return nil
}

// wycheproofX25519 judges by the numbers and not by the file's flags: §1.1 refuses what is not canonical or gives zero.
func wycheproofX25519(_ *wycheproofGroup, test *wycheproofTest) error {
	limit, _ := hex.DecodeString("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed")
	bigEndian := make([]byte, len(test.Public))
	for i, b := range test.Public {
		bigEndian[len(bigEndian)-1-i] = b
	}
	refused := bytes.Compare(bigEndian, limit) >= 0 || bytes.Equal(test.Shared, make([]byte, 32))
	shared, err := ts1.Agree(test.Private, test.Public)
	switch {
	case refused && test.Result == "valid":
		return errors.New("the rule refuses a case that every implementation must accept")
	case refused:
		return expected(err, "InvalidPublicKey")
	}
	return first(err, same("shared", shared, test.Shared))
}
