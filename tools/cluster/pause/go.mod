module xinstruct.invalid/pause

go 1.22
