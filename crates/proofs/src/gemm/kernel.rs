//! The product itself: a block of rows times the matrix, in 16-bit operands and 32-bit sums.
//!
//! Guarantees: exact, and the same on every processor; a sum of `n <= 16,384` products of int8 is at most 2^28. Written so that the compiler makes multiply-add
//! instructions of it; no other order of the sums can give another result.

/// Rows computed together: a block's operands stay in the first cache while the matrix goes by once.
pub(super) const BLOCK: usize = 16;
/// Rows that share each load of a column.
const ROWS: usize = 4;

/// `C = X B` for up to [`BLOCK`] rows of `x`, with B's columns one after another; `c` has as many rows.
///
/// The same code for each width of the processor's vectors: what differs is what the compiler may make of it.
pub(super) fn multiply(x: &[i16], columns: &[i16], n: usize, c: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "the only way to call what was compiled for a processor that may not be this one")]
    {
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor was just seen to have these instructions; nothing else about the call is unsafe.
            return unsafe { multiply_avx512(x, columns, n, c) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the same.
            return unsafe { multiply_avx2(x, columns, n, c) };
        }
    }
    multiply_portable(x, columns, n, c);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn multiply_avx512(x: &[i16], columns: &[i16], n: usize, c: &mut [i32]) {
    multiply_portable(x, columns, n, c);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_avx2(x: &[i16], columns: &[i16], n: usize, c: &mut [i32]) {
    multiply_portable(x, columns, n, c);
}

#[inline(always)]
fn multiply_portable(x: &[i16], columns: &[i16], n: usize, c: &mut [i32]) {
    for (at, column) in columns.chunks_exact(n).enumerate() {
        for (rows, sums) in x.chunks(ROWS * n).zip(c.chunks_mut(ROWS * n)) {
            let results = if let Some(rows) = four(rows, n) {
                dot(rows, column)
            } else {
                let mut results = [0; ROWS];
                rows.chunks_exact(n).zip(&mut results).for_each(|(row, to)| *to = plain(row, column));
                results
            };
            for (to, sum) in sums.iter_mut().skip(at).step_by(n).zip(results) {
                *to = sum;
            }
        }
    }
}

#[inline(always)]
fn four(rows: &[i16], n: usize) -> Option<[&[i16]; ROWS]> {
    let (a, rest) = rows.split_at_checked(n)?;
    let (b, rest) = rest.split_at_checked(n)?;
    let (c, d) = rest.split_at_checked(n)?;
    (d.len() == n).then_some([a, b, c, d])
}

#[inline(always)]
fn plain(x: &[i16], b: &[i16]) -> i32 {
    x.iter().zip(b).fold(0, |sum, (x, b)| add(sum, *x, *b))
}

/// Four rows times a column. Nothing wraps at the widths in use; said so that no check keeps the loop from becoming vectors.
#[inline(always)]
fn dot([x0, x1, x2, x3]: [&[i16]; ROWS], b: &[i16]) -> [i32; ROWS] {
    let entries = x0.iter().zip(x1).zip(x2.iter().zip(x3)).zip(b);
    entries.fold([0; ROWS], |[s0, s1, s2, s3], (((x0, x1), (x2, x3)), b)| {
        [add(s0, *x0, *b), add(s1, *x1, *b), add(s2, *x2, *b), add(s3, *x3, *b)]
    })
}

#[inline(always)]
fn add(sum: i32, x: i16, b: i16) -> i32 {
    sum.wrapping_add(i32::from(x).wrapping_mul(i32::from(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_kernel_equals_the_definition(eights in 1usize..9, rows in 1usize..=BLOCK, entries in prop::collection::vec(any::<i8>(), 72 * 72 + BLOCK * 72)) {
            let n = 8 * eights;
            let entries: Vec<i16> = entries.into_iter().map(i16::from).collect();
            let (columns, x) = (&entries[..n * n], &entries[n * n..][..rows * n]);
            let mut c = vec![0; rows * n];
            multiply(x, columns, n, &mut c);
            let mut portable = vec![0; rows * n];
            multiply_portable(x, columns, n, &mut portable);
            prop_assert_eq!(&c, &portable);
            for i in 0..rows {
                for j in 0..n {
                    let sum: i64 = (0..n).map(|k| i64::from(x[i * n + k]) * i64::from(columns[j * n + k])).sum();
                    prop_assert_eq!(i64::from(c[i * n + j]), sum);
                }
            }
        }
    }

    #[test]
    fn the_largest_sums_are_exact() {
        let low = vec![-128i16; 16_384];
        assert_eq!(dot([&low, &low, &low, &low], &low), [1 << 28; 4]);
    }
}
