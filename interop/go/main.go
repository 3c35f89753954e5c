// Command interop is a second implementation of suite TS1 and of the evidence file, written from docs/spec.
//
//	interop check VECTORS CASES CORPORA NODE PEER
//	                               all vectors of a folder, the evidence files of make-evidence.mts, CORPORA/wycheproof
//	                               where it is there, and conversations with the product (NODE runs PEER, which is
//	                               product-peer.mts)
//	interop verify-evidence FILE   one evidence file, offline; exit code 0 when every check holds
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tallystick-interop/conversation"
	"tallystick-interop/evidence"
	"tallystick-interop/vectors"
)

func main() {
	switch {
	case len(os.Args) == 7 && os.Args[1] == "check":
		os.Exit(check(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]))
	case len(os.Args) == 3 && os.Args[1] == "verify-evidence":
		os.Exit(verifyEvidence(os.Args[2]))
	}
	fmt.Fprintln(os.Stderr, "usage: interop check VECTORS CASES CORPORA NODE PEER | interop verify-evidence FILE")
	os.Exit(2)
}

func check(folder, cases, corpora, node, peer string) int {
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
	if err := vectors.Run(folder, report); err != nil {
		report("vectors", err)
	}
	vectors.RunSignatures(report)
	switch err := vectors.RunWycheproof(filepath.Join(corpora, "wycheproof"), report); {
	case vectors.Absent(err):
		fmt.Printf("skip Wycheproof: %v; TALLYSTICK_CORPORA names the folder that holds wycheproof/\n", err)
	case err != nil:
		report("Wycheproof", err)
	}
	if err := evidence.RunCases(cases, report); err != nil {
		report("evidence", err)
	}
	for _, setting := range conversation.Settings() {
		summary, err := conversation.Run(node, peer, setting)
		report(fmt.Sprintf("conversation: %s: %s", setting, summary), err)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return 1
	}
	return 0
}

func verifyEvidence(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	result := evidence.Verify(data)
	for _, check := range result.Checks {
		if check.Err == nil {
			fmt.Printf("ok   %s\n", check.Name)
		} else {
			fmt.Printf("FAIL %s: %v\n", check.Name, check.Err)
		}
	}
	if len(result.Missing) > 0 {
		fmt.Printf("not in the file: %s\n", strings.Join(result.Missing, ", "))
	}
	if !result.OK() {
		fmt.Println("refused")
		return 1
	}
	fmt.Printf("%s %s\nfrom %s (%s)\nfor  %s (%s)\n", result.Kind, result.DocumentID, result.Sender.FleetID, result.Sender.DisplayName, result.Recipient.FleetID, result.Recipient.DisplayName)
	if len(result.Verdicts) > 0 {
		fmt.Printf("verdicts: %s\n", strings.Join(result.Verdicts, ", "))
	}
	fmt.Println("accepted")
	return 0
}
