module affidavit.test/pause

go 1.25
