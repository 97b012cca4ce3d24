//! Programs that make one system call with nothing but zeros, and end with its error: a few instructions in an ELF file,
//! so that no compiler is needed where the tests run.

/// For which kind of programs the kernel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    /// This machine's own.
    Native,
    /// 32 bits on a machine with 64; only on x86.
    Other,
}

/// Returns an executable that makes the call `number`: its exit status is the error, or 0. Empty where there is none.
pub(crate) fn program(bits: Bits, number: libc::c_long) -> Vec<u8> {
    let number = u32::try_from(number).expect("a small number");
    match (bits, std::env::consts::ARCH) {
        (Bits::Native, "x86_64") => elf64(62, &x86_64(number)),
        (Bits::Native, "aarch64") => elf64(183, &aarch64(number)),
        (Bits::Native, other) => panic!("no probes for {other} yet"),
        (Bits::Other, "x86_64") => elf32(3, &x86(number)),
        (Bits::Other, _) => Vec::new(),
    }
}

fn x86_64(number: u32) -> Vec<u8> {
    let mut code =
        vec![0x31, 0xff, 0x31, 0xf6, 0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x4d, 0x31, 0xc0, 0x4d, 0x31, 0xc9];
    code.push(0xb8); // mov eax, number
    code.extend(number.to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code.extend(STATUS_OF_RESULT);
    code.extend([0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]); // exit(eax)
    code
}

fn x86(number: u32) -> Vec<u8> {
    let mut code = vec![0x31, 0xdb, 0x31, 0xc9, 0x31, 0xd2, 0x31, 0xf6, 0x31, 0xff, 0x31, 0xed];
    code.push(0xb8); // mov eax, number
    code.extend(number.to_le_bytes());
    code.extend([0xcd, 0x80]); // int 0x80
    code.extend(STATUS_OF_RESULT);
    code.extend([0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]); // exit(eax)
    code
}

/// test eax, eax; js +2; xor eax, eax; neg eax
const STATUS_OF_RESULT: [u8; 8] = [0x85, 0xc0, 0x78, 0x02, 0x31, 0xc0, 0xf7, 0xd8];

fn aarch64(number: u32) -> Vec<u8> {
    const SVC: u32 = 0xd400_0001;
    let movz = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let mut code: Vec<u32> = (0..6).map(|register| movz(register, 0)).collect();
    code.extend([movz(8, number), SVC]);
    // cmp x0, #0; csneg x0, xzr, x0, ge; exit(x0)
    code.extend([0xf100_001f, 0xda80_a7e0, movz(8, 93), SVC]);
    code.into_iter().flat_map(u32::to_le_bytes).collect()
}

const BASE: u32 = 0x0040_0000;

/// A file header, one program header and the code (elf(5)).
fn elf64(machine: u16, code: &[u8]) -> Vec<u8> {
    let (header, table) = (64_u32, 56_u32);
    let mut file = ident(2);
    let size = u64::from(header + table) + code.len() as u64;
    file.extend([2, 0].iter().chain(&machine.to_le_bytes()).chain(&1_u32.to_le_bytes()));
    for place in [u64::from(BASE + header + table), u64::from(header), 0] {
        file.extend(place.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for number in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    // PT_LOAD, readable and executable
    file.extend(1_u32.to_le_bytes().iter().chain(&5_u32.to_le_bytes()));
    for number in [0, u64::from(BASE), u64::from(BASE), size, size, 0x1000] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    file
}

fn elf32(machine: u16, code: &[u8]) -> Vec<u8> {
    let (header, table) = (52_u32, 32_u32);
    let mut file = ident(1);
    let size = header + table + u32::try_from(code.len()).expect("a few bytes");
    file.extend([2, 0].iter().chain(&machine.to_le_bytes()).chain(&1_u32.to_le_bytes()));
    for number in [BASE + header + table, header, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    for number in [52_u16, 32, 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    for number in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    file
}

fn ident(class: u8) -> Vec<u8> {
    let mut ident = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
    ident.resize(16, 0);
    ident
}
