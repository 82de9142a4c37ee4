#include "textflag.h"

// func packBlocks(dst, src *byte, blocks int, index *int32, shuffles *[256]uint64) int
//
// Sixteen bytes are compared at once; of each half, the mask of what is noise
// picks the shuffle that moves the rest together. Eight bytes are written each
// time, and never more of dst than was read of src.
TEXT ·packBlocks(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX
	MOVQ index+24(FP), DX
	MOVQ shuffles+32(FP), R8
	XORQ AX, AX                  // written
	MOVQ $0x2020202020202020, R9
	MOVQ R9, X6
	PUNPCKLQDQ X6, X6            // blanks
	MOVQ $0x7f7f7f7f7f7f7f7f, R9
	MOVQ R9, X7
	PUNPCKLQDQ X7, X7            // DELs

#define PACK(at) \
	MOVOU   at(SI), X0;         \
	MOVOA   X0, X1;             \
	PMINUB  X6, X1;             \
	PCMPEQB X0, X1;             \
	MOVOA   X0, X2;             \
	PCMPEQB X7, X2;             \
	POR     X2, X1;             \
	PMOVMSKB X1, R9;            \
	MOVBLZX R9, R10;            \
	SHRL    $8, R9;             \
	MOVQ    (R8)(R10*8), X3;    \
	MOVQ    (R8)(R9*8), X4;     \
	MOVOA   X0, X5;             \
	PSRLDQ  $8, X5;             \
	PSHUFB  X3, X0;             \
	PSHUFB  X4, X5;             \
	MOVQ    X0, (DI)(AX*1);     \
	POPCNTL R10, R10;           \
	SUBQ    R10, AX;            \
	MOVQ    X5, 8(DI)(AX*1);    \
	POPCNTL R9, R9;             \
	SUBQ    R9, AX;             \
	ADDQ    $16, AX

loop:
	TESTQ CX, CX
	JZ    done
	MOVL  AX, (DX)
	PACK(0)
	PACK(16)
	PACK(32)
	PACK(48)
	ADDQ  $64, SI
	ADDQ  $4, DX
	DECQ  CX
	JMP   loop

done:
	MOVQ AX, ret+40(FP)
	RET

// func colonLines(p *byte, places int) bool
//
// Is at one of so many places, sixteen at least, a line end before a colon?
TEXT ·colonLines(SB), NOSPLIT, $0-17
	MOVQ p+0(FP), SI
	MOVQ places+8(FP), CX
	LEAQ -16(SI)(CX*1), DI       // the last sixteen places, which may overlap
	MOVQ $0x0a0a0a0a0a0a0a0a, R9
	MOVQ R9, X6
	PUNPCKLQDQ X6, X6
	MOVQ $0x3a3a3a3a3a3a3a3a, R9
	MOVQ R9, X7
	PUNPCKLQDQ X7, X7
	MOVOU (DI), X5
	MOVOU 1(DI), X1
	PCMPEQB X6, X5
	PCMPEQB X7, X1
	PAND  X1, X5

look:
	MOVOU (SI), X0
	MOVOU 1(SI), X1
	PCMPEQB X6, X0
	PCMPEQB X7, X1
	PAND  X1, X0
	POR   X0, X5
	ADDQ  $16, SI
	CMPQ  SI, DI
	JCS   look
	PMOVMSKB X5, AX
	TESTL AX, AX
	SETNE ret+16(FP)
	RET
